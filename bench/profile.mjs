/** Preloaded into a process: samples its CPU from start to end and leaves a .cpuprofile in BELAY_PROFILES. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { Session } from 'node:inspector';
import { basename, join } from 'node:path';

const directory = process.env.BELAY_PROFILES;
const program = process.argv[1] ?? '';
if (directory && /^(api|workers)$/.test(basename(join(program, '..')))) {
  const session = new Session();
  session.connect();
  session.post('Profiler.enable');
  session.post('Profiler.setSamplingInterval', { interval: 500 });
  session.post('Profiler.start');
  process.once('exit', () => {
    session.post('Profiler.stop', (error, result) => {
      if (error) return;
      mkdirSync(directory, { recursive: true });
      writeFileSync(
        join(directory, `${process.env.BELAY_ROLE}-${process.pid}.cpuprofile`),
        JSON.stringify(result.profile),
      );
    });
  });
}
