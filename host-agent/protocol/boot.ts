/** The lives of the machine itself. */
import * as Type from 'typebox';
import { change, question } from './call.ts';
import { uuid } from './fields.ts';

export const calls = {
  /** In which life the machine is, and whether it can be made to begin the next. */
  'host.boot': question({}, { bootId: Type.String(), canReboot: Type.Boolean() }),
  /** It begins the next, if it is still in this one. PRECONDITION_FAILED while a guest is there. */
  'host.reboot': change({ bootId: uuid }),
};
