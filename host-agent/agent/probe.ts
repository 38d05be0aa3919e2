import { spawn } from 'node:child_process';
import { access, constants, readdir, readFile } from 'node:fs/promises';
import os from 'node:os';
import { join } from 'node:path';
import { exists } from './paths.ts';

const BOOT_TIMEOUT_MS = 20_000;

/** A kernel without a root file system gets this far only when processor, memory, timer and interrupts all work. */
const BOOTED = /Unable to mount root fs|No working init found|VFS: Cannot open root device/;

/**
 * Whether KVM can be used: the processor's flag is there, the device opens, and a kernel really boots. The device alone proves
 * nothing: there are machines on which it opens and runs a BIOS, and every guest's kernel hangs.
 */
export async function probeKvm(signal: AbortSignal): Promise<{ kvm: boolean; reason: string }> {
  const isX86 = process.arch === 'x64';
  const cpuinfo = await readFile('/proc/cpuinfo', 'utf8');
  if (isX86 && !/^flags\s*:.*\b(vmx|svm)\b/m.test(cpuinfo)) {
    return { kvm: false, reason: 'the processor has neither vmx nor svm' };
  }
  try {
    await access('/dev/kvm', constants.R_OK | constants.W_OK);
  } catch {
    return { kvm: false, reason: '/dev/kvm can not be opened' };
  }
  const kernel = await findKernel();
  if (kernel === undefined) return { kvm: false, reason: 'there is no kernel in /boot to boot a guest with' };
  const booted = await bootsKernel(kernel, 'kvm', signal);
  return booted
    ? { kvm: true, reason: `booted ${kernel}` }
    : { kvm: false, reason: `${kernel} did not boot within ${BOOT_TIMEOUT_MS / 1000} s` };
}

async function findKernel(): Promise<string | undefined> {
  const running = `/boot/vmlinuz-${os.release()}`;
  if (await exists(running)) return running;
  const kernels = (await readdir('/boot').catch(() => [])).filter((name) => name.startsWith('vmlinuz')).sort();
  const newest = kernels.at(-1);
  return newest === undefined ? undefined : join('/boot', newest);
}

/** Boots a kernel with nothing else, until it complains that it has no root file system. */
export function bootsKernel(kernel: string, accelerator: 'kvm' | 'tcg', signal: AbortSignal): Promise<boolean> {
  const isX86 = process.arch === 'x64';
  const binary = isX86 ? 'qemu-system-x86_64' : 'qemu-system-aarch64';
  const argv = [
    ['-machine', isX86 ? `pc,accel=${accelerator}` : `virt,accel=${accelerator}`],
    ['-cpu', accelerator === 'kvm' ? 'host' : 'max'],
    ['-m', '256', '-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot', '-serial', 'stdio'],
    ['-kernel', kernel, '-append', `console=${isX86 ? 'ttyS0' : 'ttyAMA0'} panic=-1`],
  ].flat();
  return new Promise((resolve) => {
    const child = spawn(binary, argv, { stdio: ['ignore', 'pipe', 'ignore'] });
    let output = '';
    const finish = (booted: boolean) => {
      clearTimeout(timer);
      signal.removeEventListener('abort', giveUp);
      child.kill('SIGKILL');
      resolve(booted);
    };
    const giveUp = () => finish(false);
    const timer = setTimeout(giveUp, BOOT_TIMEOUT_MS);
    signal.addEventListener('abort', giveUp, { once: true });
    child.on('error', giveUp);
    child.on('close', () => finish(BOOTED.test(output)));
    child.stdout.on('data', (chunk: Buffer) => {
      output = (output + chunk.toString('latin1')).slice(-20_000);
      if (BOOTED.test(output)) finish(true);
    });
  });
}
