/** `instance.stop`: the name of its kind, and its verb. What is no such name has parts that are those of nothing. No I/O: workflows import it. */
export function partsOfType(type: string): { kindName: string; verb: string } {
  const [kindName = '', verb = ''] = type.split('.');
  return { kindName, verb };
}
