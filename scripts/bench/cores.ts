/** Which processor core does what, and what each process used of it. */
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { availableParallelism } from "node:os";

/** The server's core, and the one for everything else. */
export interface Cores {
  readonly server: readonly string[];
  readonly both: readonly string[];
  /** One sentence for the report. */
  readonly words: string;
}

/** The kernel counts a process's time in hundredths of a second on every Linux (`getconf CLK_TCK`). */
const TICK_MICROSECONDS = 10_000;

/**
 * Puts this process, and so whatever it starts, on the second core, and says how to start what belongs elsewhere.
 *
 * @returns prefixes of command lines; empty ones where processes cannot be pinned
 */
export function pinOurselves(): Cores {
  const unpinned = (why: string): Cores => ({
    server: [],
    both: [],
    words: `unpinned, since ${why}: ratios are less certain`,
  });
  if (process.platform !== "linux") return unpinned("this is not Linux");
  if (availableParallelism() < 2) return unpinned("there is one core only");
  const allowed = allowedCores();
  const [first, second] = allowed;
  if (first === undefined || second === undefined) return unpinned("there is one core only");
  const pinned = spawnSync("taskset", ["-a", "-c", "-p", String(second), String(process.pid)], { stdio: "ignore" });
  if (pinned.error || pinned.status !== 0) return unpinned("taskset (util-linux) is missing");
  return {
    server: ["taskset", "-c", String(first)],
    both: ["taskset", "-c", `${first},${second}`],
    words: "the server alone on one core, PostgreSQL and the load generator on another",
  };
}

function allowedCores(): number[] {
  const list = /^Cpus_allowed_list:\s*(\S+)$/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1] ?? "";
  return list.split(",").flatMap((range) => {
    const [from = "0", to = from] = range.split("-");
    return Array.from({ length: Number(to) - Number(from) + 1 }, (_, i) => Number(from) + i);
  });
}

/** CPU time that processes used so far, in microseconds. Nothing where the system does not tell. */
export function cpuMicroseconds(pids: readonly number[]): number {
  return pids.reduce((sum, pid) => sum + cpuOf(pid), 0);
}

function cpuOf(pid: number): number {
  const fields = statOf(pid);
  // utime and stime; children that ended are in cutime and cstime of their parent, which is counted with them.
  return fields === undefined
    ? 0
    : [11, 12, 13, 14].reduce((ticks, at) => ticks + Number(fields[at]), 0) * TICK_MICROSECONDS;
}

/** CPU time that the whole machine used so far, in microseconds; 0 where the system does not tell. */
export function machineMicroseconds(): number {
  if (process.platform !== "linux") return 0;
  const [user, nice, system, , , irq, softirq] = (/^cpu +(.*)$/m.exec(readFileSync("/proc/stat", "utf8"))?.[1] ?? "")
    .split(" ")
    .map(Number);
  return [user, nice, system, irq, softirq].reduce<number>((sum, ticks) => sum + (ticks ?? 0), 0) * TICK_MICROSECONDS;
}

/** The processes of a PostgreSQL server, its postmaster first. */
export function postgresProcesses(postmaster: number): readonly number[] {
  if (process.platform !== "linux") return [];
  const children = readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && Number(statOf(Number(name))?.[1]) === postmaster)
    .map(Number);
  return [postmaster, ...children];
}

/** The fields of /proc/<pid>/stat from the third on: the second, the name, may hold anything. */
function statOf(pid: number): readonly string[] | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "utf8");
    return text.slice(text.lastIndexOf(")") + 2).split(" ");
  } catch {
    return undefined;
  }
}
