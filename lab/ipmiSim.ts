/**
 * BMCs that speak IPMI 2.0: OpenIPMI's `ipmi_sim` (Debian's package openipmi), whose power is that of a machine of the lab. It asks a program about the
 * power, which does not run in here; so that leaves what is to be done in a directory, where it is done.
 */
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export interface IpmiSimOptions {
  /** Where it keeps what it needs. */
  directory: string;
  address: string;
  port: number;
  user: string;
  password: string;
  /** Shell commands: whether it is on is how the first ends; the others are done when they have ended. */
  power: { isOn: string; on: string; off: string };
}

export const hasIpmiSim = (): boolean => spawnSync('ipmi_sim', ['--help'], { stdio: 'ignore' }).error === undefined;

/** What the program answers and does, as `ipmi_sim` asks it (ipmi_lan(5), chassis_control). */
const control = ({ isOn, on, off }: IpmiSimOptions['power']): string => `#!/bin/sh
while [ $# -gt 0 ]; do
  what=$1 of=$2
  shift; shift
  case $what/$of in
    get/power) if ${isOn}; then echo power:1; else echo power:0; fi ;;
    get/*) echo "$of:0" ;;
    set/power) if [ "$1" = 1 ]; then ${isOn} || ${on}; else ! ${isOn} || ${off}; fi; shift ;;
    set/shutdown) ! ${isOn} || ${off}; shift ;;
    set/reset) if ${isOn}; then ${off}; ${on}; fi; shift ;;
    set/*) shift ;;
  esac
done
exit 0
`;

/** Writes what it needs. Answers the command that runs it in the foreground. */
export function prepareIpmiSim({ directory, address, port, user, password, power }: IpmiSimOptions): string[] {
  const state = join(directory, 'state');
  mkdirSync(state, { recursive: true, mode: 0o700 });
  const at = (name: string, text: string, mode = 0o600): string => {
    writeFileSync(join(directory, name), text);
    chmodSync(join(directory, name), mode);
    return join(directory, name);
  };
  const controlPath = at('control', control(power), 0o700);
  const lan = at(
    'lan.conf',
    `name "bmc"
set_working_mc 0x20
startlan 1
  addr ${address} ${port}
  priv_limit admin
  allowed_auths_admin md5
  guid 0123456789abcdef0123456789abcdef
endlan
chassis_control "${controlPath}"
user 2 true "${user}" "${password}" admin 10 md5
`,
  );
  const machine = at(
    'machine.emu',
    'mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr\nmc_enable 0x20\n',
  );
  return ['ipmi_sim', '-c', lan, '-f', machine, '-s', state, '-n'];
}
