/** Medians over the rounds, as a table. */
import { readFileSync } from "node:fs";
import { cpus } from "node:os";
import type { Cores } from "./cores.ts";

/** One side in one round. */
export interface Measured {
  /** Good answers. */
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** CPU time of the server's process, by request. */
  readonly serverMicroseconds: number;
  /** CPU time of all processes of PostgreSQL, by request; 0 for the peer, which has none. */
  readonly databaseMicroseconds: number;
  /** Which part of the machine was used by processes that are none of ours; with it numbers get worse. */
  readonly othersShare: number;
  /** Answers that were not 200, connections that broke, and bodies that ran out. */
  readonly failures: number;
}

/** A case and its rounds. */
export interface CaseResult {
  readonly title: string;
  /** The ratio to be reached. */
  readonly aim?: number;
  readonly rounds: readonly { readonly ephor: Measured; readonly peer: Measured }[];
  readonly failures: number;
}

/** The generator's start and its reading of bodies are among the others too. */
const QUIET_SHARE = 0.15;

/** Prints the table, or the numbers behind it as JSON. */
export function printReport(
  results: readonly CaseResult[],
  o: { settings: { rounds: number; seconds: number; connections: number }; cores: Cores; json: boolean },
): void {
  const rows = results.map(summary);
  if (o.json) {
    console.log(
      JSON.stringify({
        ...o.settings,
        pinned: o.cores.server.length > 0,
        versions: versions(),
        cases: rows,
        rounds: results,
      }),
    );
    return;
  }
  const { rounds, seconds, connections } = o.settings;
  console.log(
    `\nMedians of ${rounds} alternating rounds of ${seconds} s after a warm-up, ${connections} connections; ${o.cores.words}.`,
  );
  console.log(versions().join(", "));
  console.log("CPU is microseconds a request: of the server's process, and of all PostgreSQL processes.\n");
  console.log(
    "| case | x peer | aim | p50 ms | p99 ms | server CPU | database CPU | peer p50 | peer p99 | peer CPU | errors |",
  );
  console.log("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
  for (const row of rows) {
    const cells = [
      row.title,
      row.ratio.toFixed(2),
      row.aim === undefined ? "" : row.aim.toFixed(1),
      ...[row.p50Ms, row.p99Ms].map((ms) => ms.toFixed(1)),
      ...[row.serverMicroseconds, row.databaseMicroseconds].map((us) => us.toFixed(0)),
      ...[row.peerP50Ms, row.peerP99Ms].map((ms) => ms.toFixed(1)),
      row.peerMicroseconds.toFixed(0),
      String(row.failures),
    ];
    console.log(`| ${cells.join(" | ")} |`);
  }
  const both = results.flatMap((result) => result.rounds).flatMap(({ ephor, peer }) => [ephor, peer]);
  const others = median(both.map((side) => side.othersShare));
  const verdict = others > QUIET_SHARE ? ": too much for numbers that hold" : "";
  console.log(`\nOther processes used ${(others * 100).toFixed(0)}% of the machine${verdict}.`);
}

function summary({ title, aim, rounds, failures }: CaseResult) {
  const over = (pick: (round: CaseResult["rounds"][number]) => number): number => median(rounds.map(pick));
  return {
    title,
    aim,
    failures,
    // Of the two sides of one round, which ran right after each other.
    ratio: over(({ ephor, peer }) => ephor.perSecond / peer.perSecond),
    p50Ms: over(({ ephor }) => ephor.p50Ms),
    p99Ms: over(({ ephor }) => ephor.p99Ms),
    serverMicroseconds: over(({ ephor }) => ephor.serverMicroseconds),
    databaseMicroseconds: over(({ ephor }) => ephor.databaseMicroseconds),
    peerP50Ms: over(({ peer }) => peer.p50Ms),
    peerP99Ms: over(({ peer }) => peer.p99Ms),
    peerMicroseconds: over(({ peer }) => peer.serverMicroseconds),
  };
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const high = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? high : (high + (sorted[middle - 1] ?? high)) / 2;
}

function versions(): string[] {
  const of = (path: string): string =>
    String(
      (JSON.parse(readFileSync(new URL(`../../${path}/package.json`, import.meta.url), "utf8")) as { version: string })
        .version,
    );
  return [
    `Node ${process.versions.node}`,
    `OpenSSL ${process.versions.openssl}`,
    `Ephor ${of(".")}`,
    `oidc-provider ${of("node_modules/oidc-provider")}`,
    `autocannon ${of("node_modules/autocannon")}`,
    `${cpus().length} cores`,
  ];
}
