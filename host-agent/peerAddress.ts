/**
 * Where a host is found by other hosts. They tell each other IP addresses, and `sim://…` is none: a simulated host's is counted by the number at the end
 * of its name.
 */
export const peerAddress = (address: string): string => (address.startsWith('sim://') ? simulatedIp(address) : address);

export function simulatedIp(name: string): string {
  const number = Number(/\d+$/.exec(name)?.[0] ?? 0) + 1;
  return `10.${(number >> 16) & 255}.${(number >> 8) & 255}.${number & 255}`;
}
