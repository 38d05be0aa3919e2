import { type AgentProblem, Problem } from '../problem.ts';
import { LIBVIRT_CODE, LibvirtError, LibvirtUnavailable } from './libvirt.ts';

/** `virErrorNumber` values for which trying again can not help, or which mean something of their own. */
const LIBVIRT_CODES: Record<number, [AgentProblem['code'], boolean]> = {
  8: ['INVALID_ARGUMENT', false],
  27: ['INVALID_ARGUMENT', false], // XML_ERROR
  [LIBVIRT_CODE.noDomain]: ['NOT_FOUND', false],
  [LIBVIRT_CODE.operationInvalid]: ['INVALID_STATE', false],
  67: ['NOT_SUPPORTED', false], // CONFIG_UNSUPPORTED
  68: ['TIMEOUT', true], // OPERATION_TIMEOUT: another job holds the domain
  74: ['NOT_SUPPORTED', false], // ARGUMENT_UNSUPPORTED
  [LIBVIRT_CODE.noSecret]: ['PRECONDITION_FAILED', false],
  [LIBVIRT_CODE.agentUnresponsive]: ['TIMEOUT', true],
};

export function toProblem(error: unknown): AgentProblem {
  if (error instanceof Problem) return { code: error.code, message: error.message, retryable: error.retryable };
  if (error instanceof LibvirtUnavailable)
    return { code: 'BACKEND_UNAVAILABLE', message: error.message, retryable: true };
  if (error instanceof LibvirtError) {
    const [code, retryable] = LIBVIRT_CODES[error.code] ?? ['BACKEND_UNAVAILABLE', true];
    return { code, message: `libvirt: ${error.message}`, retryable };
  }
  return { code: 'INTERNAL', message: error instanceof Error ? error.message : String(error), retryable: false };
}
