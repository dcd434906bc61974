/**
 * `npm run bench`: Ephor and a peer, oidc-provider, on the same work in alternating rounds. See docs/performance.md.
 *
 *   npm run bench                       five rounds of five seconds a side and case
 *   npm run bench -- --quick            two rounds of two seconds
 *   npm run bench -- --case crowd       the same work with and without a million agents and 100,000 kills
 *   npm run bench -- --case proxy --case proxy-moderate --case proxy-few --case proxy-nginx --case streams
 *   npm run bench -- --rounds 9 --seconds 10 --connections 32 --case introspection --json
 *   npm run bench -- --profile DIR      the server writes a CPU profile to DIR; numbers are then worse
 */
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { createServer, type AddressInfo } from "node:net";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { cpuMicroseconds, machineMicroseconds, pinOurselves, postgresProcesses, type Cores } from "./cores.ts";
import { crowdSubjects, residentMb } from "./crowd.ts";
import { buildEphor, startEphor, type Ephor } from "./ephor.ts";
import { hasNginx, startNginx } from "./nginx.ts";
import { holdStreams } from "./streams.ts";
import { askProcess, startProcess, type Started } from "./processes.ts";
import { printReport, type CaseResult, type Measured } from "./report.ts";
import {
  bareProxy,
  clientCredentials,
  crowdedExchange,
  exchange,
  introspection,
  peerIntrospection,
  peerOrder,
  proxiedCall,
  reExchange,
  type Peer,
  vending,
  type Side,
  type Workshop,
} from "./sides.ts";
import { benchKey, type BenchKey } from "./tokens.ts";

interface Settings {
  readonly rounds: number;
  readonly seconds: number;
  /** Requests before the clock counts: V8 goes on compiling for that long. */
  readonly warmUpRequests: number;
  readonly connections: number;
}

interface Case {
  readonly name: string;
  readonly title: string;
  readonly aim?: number;
  /** In place of those of all cases. */
  readonly connections?: number;
  /** Requests a second, evenly spaced, for both sides; else as many as they answer. */
  readonly rate?: number;
  readonly ephor: Side;
  readonly peer: Side;
}

interface Bench {
  readonly ephor: Ephor;
  readonly peer: Peer;
  /** Another Ephor, with a crowd; where its case is wanted. */
  readonly crowded: Ephor | undefined;
  /** Proxies that only relay, where their cases are wanted. */
  readonly bare: Relay | undefined;
  readonly nginx: Relay | undefined;
  readonly cores: Cores;
  readonly settings: Settings;
}

type Relay = Started & { readonly url: string };

/** Asked before this process is put on one core, for it would say one from then on. */
const MACHINE_CORES = availableParallelism();

/** What the case of that name has in its database. */
const CROWD_CASE = "crowd";
const PROXY_CASES = {
  crowded: "proxy",
  moderate: "proxy-moderate",
  few: "proxy-few",
  nginx: "proxy-nginx",
  streams: "streams",
};
/** Calls a second at which a server is far from busy. */
const MODERATE = 200;
/** Callers that wait for one answer before they ask again: what they ask keeps server and database busy. */
const FEW = 4;
const STREAMS = 500;
const CROWD = { agents: 1_000_000, kills: 100_000 };

/** More than either side has ever done in a second, for the first round; later ones know better. */
const FIRST_GUESS_PER_SECOND = 8_000;
/** The warm-up goes in turns, and ends on a machine that is too slow for it. */
const WARM_UP_SECONDS = 3;
const WARM_UP_TURNS = 10;
/** Bodies made for a round, as a multiple of what the fastest one so far needed. */
const RESERVE = 1.5;

const { values } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
    rounds: { type: "string" },
    seconds: { type: "string" },
    connections: { type: "string", default: "64" },
    case: { type: "string", multiple: true },
    profile: { type: "string" },
    folder: { type: "string", default: tmpdir() },
  },
});

process.exitCode = await main();

async function main(): Promise<number> {
  const settings: Settings = {
    rounds: Number(values.rounds ?? (values.quick ? 2 : 5)),
    seconds: Number(values.seconds ?? (values.quick ? 2 : 5)),
    warmUpRequests: values.quick ? 3_000 : 20_000,
    connections: Number(values.connections),
  };
  const cores = pinOurselves();
  const folder = await mkdtemp(join(values.folder, "ephor-bench-"));
  say(`Building Ephor; ${cores.words}.`);
  buildEphor();
  const keys = { rsa: benchKey("RS256"), ec: benchKey("ES256"), peer: benchKey("ES256"), client: benchKey("ES256") };
  const [ephorPort, peerPort, crowdedPort, upstreamPort, barePort, nginxPort] = await freePorts();
  for (const name of ["vend", "plain"]) await mkdir(join(folder, name));
  const node = values.profile === undefined ? [] : ["--cpu-prof", `--cpu-prof-dir=${values.profile}`];
  const all = { cores, keys: [keys.rsa, keys.ec], node };
  const upstream = `http://127.0.0.1:${upstreamPort}`;
  const mcp = Object.values(PROXY_CASES).some(isWanted) ? `${upstream}/mcp` : undefined;
  const ephor = await startEphor({ ...all, port: ephorPort, folder: join(folder, "ephor"), mcp });
  const beside: Started[] = [];
  let crowded: Ephor | undefined;
  try {
    crowded = isWanted(CROWD_CASE) ? await startCrowded({ ...all, port: crowdedPort, folder }, ephor) : undefined;
    let bare: Bench["bare"];
    let nginx: Bench["nginx"];
    if (mcp !== undefined) {
      const order = { kind: "upstream", port: upstreamPort };
      // Beside the load generator: it costs both sides the same.
      beside.push(await startProcess("./proxy-processes.mjs", { run: [], order }));
      const relay = { kind: "bare", port: barePort, upstream };
      const started = await startProcess("./proxy-processes.mjs", { run: cores.server, order: relay });
      beside.push(started);
      bare = { ...started, url: `http://127.0.0.1:${barePort}` };
      if (hasNginx() && isWanted(PROXY_CASES.nginx)) {
        const other = await startNginx({ port: nginxPort, upstream, folder, cores });
        beside.push(other);
        nginx = { ...other, url: `http://127.0.0.1:${nginxPort}` };
      }
    }
    const peerProcess = await startProcess("./peer-process.mjs", {
      run: cores.server,
      order: peerOrder(peerPort, { signing: keys.peer, client: keys.client }),
    });
    try {
      const peer: Peer = { issuer: `http://127.0.0.1:${peerPort}`, clientKey: keys.client, process: peerProcess };
      const bench: Bench = { ephor, peer, crowded, bare, nginx, cores, settings };
      const results: CaseResult[] = [];
      for (const one of casesOf(bench, keys, folder)) results.push(await runCase(bench, one));
      if (results.length > 0) printReport(results, { settings, cores, json: values.json });
      if (isWanted(PROXY_CASES.streams)) await tellStreams(bench, keys.ec, { folder, run: cores.both });
      return results.every((result) => result.failures === 0) ? 0 : 1;
    } finally {
      await peerProcess.stop();
    }
  } finally {
    for (const one of beside) await one.stop();
    await crowded?.stop();
    await ephor.stop();
    await rm(folder, { recursive: true, force: true });
  }
}

/** Starts the one with a crowd, and tells what that takes. */
async function startCrowded(o: Parameters<typeof startEphor>[0], plain: Ephor): Promise<Ephor> {
  say(`Bringing ${CROWD.agents} agents and ${CROWD.kills} kills into another database.`);
  const crowded = await startEphor({ ...o, folder: join(o.folder, "crowded"), crowd: CROWD });
  const of = ({ startSeconds, pid }: Ephor): string => `${startSeconds.toFixed(1)} s and ${residentMb(pid) ?? "?"} MB`;
  say(`A start with them takes ${of(crowded)} of memory; one without ${of(plain)}.`);
  return crowded;
}

function casesOf(
  { ephor, peer, crowded, bare, nginx, cores }: Bench,
  keys: { rsa: BenchKey; ec: BenchKey },
  folder: string,
): Case[] {
  const at = { folder, run: cores.both };
  const same = clientCredentials(peer, at);
  const all: Case[] = [
    {
      name: "rs256",
      title: "exchange, RS256 workload token",
      aim: 2.5,
      ephor: exchange(ephor, keys.rsa, at),
      peer: same,
    },
    { name: "es256", title: "exchange, ES256 workload token", ephor: exchange(ephor, keys.ec, at), peer: same },
    { name: "again", title: "exchange again, same workload token", ephor: reExchange(ephor, keys.rsa, at), peer: same },
    {
      name: "introspection",
      title: "introspection",
      aim: 3,
      ephor: introspection(ephor, keys.ec, at),
      peer: peerIntrospection(peer, at),
    },
    {
      name: "vend",
      title: "vending of a static secret (peer: our own exchange)",
      aim: 0.5,
      ephor: vending(ephor, keys.ec, at),
      peer: exchange(ephor, keys.rsa, { ...at, folder: join(folder, "vend") }),
    },
  ];
  const proxied = { ephor: proxiedCall(ephor, keys.ec, at) };
  if (bare !== undefined) {
    const title = "MCP call through the proxy (peer: a bare reverse proxy)";
    const relay = bareProxy("bare", bare.url, at);
    all.push({ ...proxied, name: PROXY_CASES.crowded, title, aim: 0.5, peer: relay });
    const calm = `the same, ${MODERATE} calls a second`;
    all.push({ ...proxied, name: PROXY_CASES.moderate, title: calm, peer: relay, rate: MODERATE });
    const few = `the same, ${FEW} connections`;
    all.push({ ...proxied, name: PROXY_CASES.few, title: few, peer: relay, connections: FEW });
  }
  if (nginx !== undefined)
    all.push({
      ...proxied,
      name: PROXY_CASES.nginx,
      title: "MCP call through the proxy (peer: nginx)",
      peer: bareProxy("nginx", nginx.url, at),
    });
  if (crowded !== undefined)
    all.push({
      name: CROWD_CASE,
      title: `exchange among ${CROWD.agents} agents and ${CROWD.kills} kills (peer: among 200 and none)`,
      aim: 0.9,
      ephor: crowdedExchange(crowded, keys.rsa, { ...at, subjects: crowdSubjects(CROWD) }),
      peer: exchange(ephor, keys.rsa, { ...at, folder: join(folder, "plain") }),
    });
  return all.filter(({ name }) => isWanted(name));
}

/** Without names all, but the crowd takes minutes to bring. */
function isWanted(name: string): boolean {
  return values.case === undefined ? name !== CROWD_CASE || !values.quick : values.case.includes(name);
}

async function runCase(bench: Bench, one: Case): Promise<CaseResult> {
  const { settings } = bench;
  say(`${one.title}: warming up`);
  // At a rate of its own it is warm too late.
  let isWarm = false;
  const rates = { ephor: FIRST_GUESS_PER_SECOND, peer: FIRST_GUESS_PER_SECOND };
  const measure = async (who: "ephor" | "peer", seconds: number): Promise<Measured> => {
    const measured = await runRound(bench, one[who], {
      seconds,
      count: Math.ceil(rates[who] * seconds * RESERVE),
      connections: one.connections ?? settings.connections,
      rate: isWarm ? one.rate : undefined,
    });
    rates[who] = rates[who] === FIRST_GUESS_PER_SECOND ? measured.perSecond : Math.max(rates[who], measured.perSecond);
    return measured;
  };
  for (const who of ["peer", "ephor"] as const) {
    for (let done = 0, turns = 0; done < settings.warmUpRequests && turns < WARM_UP_TURNS; turns++) {
      done += (await measure(who, WARM_UP_SECONDS)).perSecond * WARM_UP_SECONDS;
    }
  }
  isWarm = true;
  const rounds: { ephor: Measured; peer: Measured }[] = [];
  for (let i = 0; i < settings.rounds; i++) {
    // Who is first changes, so that whatever drifts does so for both.
    const first = i % 2 === 0 ? ("ephor" as const) : ("peer" as const);
    const a = await measure(first, settings.seconds);
    const b = await measure(first === "ephor" ? "peer" : "ephor", settings.seconds);
    const round = first === "ephor" ? { ephor: a, peer: b } : { ephor: b, peer: a };
    say(`  round ${i + 1}: ${round.ephor.perSecond.toFixed(0)}/s, peer ${round.peer.perSecond.toFixed(0)}/s`);
    rounds.push(round);
  }
  const failures = rounds.reduce((sum, round) => sum + round.ephor.failures + round.peer.failures, 0);
  return { title: one.title, ...(one.aim === undefined ? {} : { aim: one.aim }), rounds, failures };
}

interface LoadAnswer {
  readonly good: number;
  readonly failures: number;
  readonly sent: number;
  readonly seconds: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** CPU time of the generator itself. */
  readonly cpuMicroseconds: number;
  readonly last?: string;
}

async function runRound(
  bench: Bench,
  side: Side,
  o: { seconds: number; count: number; connections: number; rate: number | undefined },
): Promise<Measured> {
  const round = await side.prepare(o.count);
  const { ephor, crowded, bare, nginx, peer } = bench;
  const measured = side.server === "ephor" ? ephor : side.server === "crowded" ? crowded : undefined;
  const server = measured?.pid ?? { bare, nginx, peer: peer.process, ephor, crowded }[side.server]?.pid ?? 0;
  const database = measured === undefined ? [] : postgresProcesses(measured.postmaster);
  const before = {
    server: cpuMicroseconds([server]),
    database: cpuMicroseconds(database),
    machine: machineMicroseconds(),
    atMs: performance.now(),
  };
  const load = await askProcess<LoadAnswer>("./load-process.mjs", {
    run: [],
    order: { ...round, connections: o.connections, seconds: o.seconds, rate: o.rate },
  });
  const used = {
    server: cpuMicroseconds([server]) - before.server,
    database: cpuMicroseconds(database) - before.database,
    machine: machineMicroseconds() - before.machine,
  };
  const others = used.machine - used.server - used.database - load.cpuMicroseconds;
  await side.sent(load.sent);
  if (load.last === undefined) throw new Error(`${round.url}: no good answer`);
  await side.check(load.last);
  return {
    perSecond: load.good / load.seconds,
    p50Ms: load.p50Ms,
    p99Ms: load.p99Ms,
    serverMicroseconds: used.server / load.good,
    databaseMicroseconds: used.database / load.good,
    othersShare: Math.max(0, others) / ((performance.now() - before.atMs) * 1_000 * MACHINE_CORES),
    failures: load.failures,
  };
}

/** Event streams side by side, and the memory that they take. */
async function tellStreams({ ephor }: Bench, key: BenchKey, at: Workshop): Promise<void> {
  const round = await proxiedCall(ephor, key, { ...at, folder: at.folder }).prepare(1);
  const { streams, beforeMb, peakMb, events, whole } = await holdStreams(ephor.pid, round, STREAMS);
  const memory = `${peakMb} MB of memory at most, ${beforeMb} before`;
  console.log(
    `\n${streams} event streams at once, 4 events a second each: ${memory}; ${events} events, ${whole} whole.`,
  );
}

async function freePorts(): Promise<readonly [number, number, number, number, number, number]> {
  const servers = Array.from({ length: 6 }, () => createServer());
  const ports = await Promise.all(
    servers.map(async (server) => {
      await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
      return (server.address() as AddressInfo).port;
    }),
  );
  await Promise.all(servers.map((server) => new Promise((done) => server.close(done))));
  const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0] = ports;
  return [a, b, c, d, e, f];
}

function say(text: string): void {
  if (!values.json) console.log(text);
}
