/**
 * npm run conformance: the MCP conformance suite against one server directly and through Ephor, scenario by scenario. Fails
 * on a difference that docs/mcp.md does not explain.
 *
 *   npm run conformance                     both revisions
 *   npm run conformance -- --only SCENARIO  shows the checks of one
 *   npm run conformance -- --suite FOLDER   where the suite is installed, or is to be
 */
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { startUpstream } from "../../test/conformance/upstream.ts";
import { runningClock } from "../../test/support/hand-clock.ts";
import { usualTrust, world } from "../../test/support/world.ts";
import { EXPLAINED } from "./explained.ts";
import { startForwarder } from "./forwarder.ts";
import { installSuite, REVISIONS, runSuite, type Outcome } from "./suite.ts";

const { values } = parseArgs({ options: { suite: { type: "string" }, only: { type: "string" } } });
const folder = values.suite ?? fileURLToPath(new URL("../../node_modules/.cache/ephor-conformance", import.meta.url));
const ends: (() => unknown)[] = [];
const t = { after: (end: () => unknown): void => void ends.unshift(end) };
try {
  process.exitCode = await main();
} finally {
  for (const end of ends) await end();
}

async function main(): Promise<number> {
  const suite = installSuite(folder);
  if (suite === undefined) {
    console.error("The conformance suite is not to be had here.");
    return 2;
  }
  const upstream = await startUpstream(t);
  const through = await throughEphor(upstream.url);
  let differences = 0;
  for (const revision of REVISIONS) {
    const direct = await runSuite(suite, { url: upstream.url, revision });
    const proxied = await runSuite(suite, { url: through, revision });
    console.log(`\n${revision}\n${"scenario".padEnd(52)}${"direct".padEnd(12)}through Ephor`);
    for (const scenario of new Set([...direct.keys(), ...proxied.keys()])) {
      const [one, other] = [direct.get(scenario) ?? {}, proxied.get(scenario) ?? {}];
      const differing = Object.keys({ ...one, ...other }).filter((check) => word(one[check]) !== word(other[check]));
      const reason = EXPLAINED[`${revision} ${scenario}`];
      const note = differing.length === 0 ? "" : reason === undefined ? "  DIFFERS" : `  explained: ${reason}`;
      if (differing.length > 0 && reason === undefined) differences++;
      console.log(`${scenario.padEnd(52)}${counted(one).padEnd(12)}${counted(other)}${note}`);
      for (const check of scenario === values.only ? Object.keys({ ...one, ...other }) : differing)
        console.log(`    ${check}\n      direct: ${one[check] ?? "-"}\n      Ephor:  ${other[check] ?? "-"}`);
    }
  }
  console.log(differences === 0 ? "\nno unexplained difference" : `\n${differences} scenarios differ`);
  return differences === 0 ? 0 : 1;
}

/** @returns an address at which the suite speaks to the upstream through Ephor, as an agent that is granted everything */
async function throughEphor(upstream: string): Promise<string> {
  const w = await world(t, {
    clock: runningClock(),
    trust: (issuers) =>
      usualTrust(issuers).replace(
        "grants:",
        `  suite:\n    mcp: ${upstream}\ngrants:\n  - { agent: release-bot, resource: suite, actions: ["*"], allow_all: true }`,
      ),
  });
  const resource = `${w.server.issuer}/mcp/suite`;
  let kept: { readonly token: string; readonly until: number } | undefined;
  const token = async (): Promise<string> => {
    if (kept !== undefined && performance.now() < kept.until) return kept.token;
    const answer = await w.self("release-bot", { scope: "suite", resource });
    const made = answer.body["access_token"];
    if (typeof made !== "string") throw new Error(`no token: ${answer.text}`);
    kept = { token: made, until: performance.now() + 20_000 };
    return made;
  };
  return (await startForwarder(t, { target: resource, token })).url;
}

/** SUCCESS, FAILURE, WARNING, SKIPPED, INFO. */
function word(status: string | undefined): string | undefined {
  return status?.split(":", 1)[0];
}

function counted(outcome: Outcome): string {
  const all = Object.values(outcome).filter((status) => status !== "INFO");
  return `${all.filter((status) => status === "SUCCESS").length}/${all.length}`;
}
