/**
 * Milliseconds of processor time that this process spends on some work. Unlike the time on the wall it does not grow when
 * others are busy on the machine.
 */
export function cpuMs(work: () => unknown): number {
  const before = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1_000;
}
