import type { AuditPage, AuditVerdict } from "../../api/audit.ts";
import { ConfigError } from "../../config/error.ts";
import { ApiError, ConnectionError } from "../../sdk/client/errors.ts";
import type { CliContext } from "../context.ts";
import { explain } from "../failure.ts";
import type { Finding } from "./finding.ts";
import { nowSeconds, shownInstant } from "../moments.ts";
import { lookAtLeases } from "./leases.ts";
import { lookAtChannels, lookAtUpstreams } from "./proxied.ts";
import { readKeys } from "../verbs/keys.ts";
import { readAll } from "../verbs/objects.ts";

/** Seconds between two clocks that stay unnoticed; beyond 5 a replica mints nothing. */
const SKEW_SECONDS = 3;
/** How far back refusals count as the present, in seconds. */
const RECENT_SECONDS = 3_600;
/** How early a review that is due is announced, in seconds. */
const REVIEW_AHEAD_SECONDS = 14 * 86_400;

const NOT_READY: Readonly<Record<string, string>> = {
  database: "Look at DATABASE_URL, whether the database runs, and at the server's log",
  clock: "Let NTP set the clocks of this replica and of the database",
  anchor:
    "Put it on another disk than the data folder; if the database is the right one, start once with EPHOR_ACCEPT_DATABASE=true",
  serving: "It is shutting down; start it again",
};

type Look = () => Promise<Finding[]>;

/** Looks at a running server from outside: what anybody sees first, then what the operator key shows. */
export async function examineServer(context: CliContext): Promise<Finding[]> {
  const reached = await attempt("server", context, () => reach(context));
  if (reached.some(({ state }) => state === "wrong")) return reached;
  const looks: [string, Look][] = [
    ["issuer", () => lookAtIssuer(context)],
    ["keys", () => lookAtKeys(context)],
    ["operator key", () => lookAtTrust(context)],
    ["issuers", () => lookAtIssuers(context)],
    ["credentials", () => lookAtLeases(context)],
    ["upstreams", () => lookAtUpstreams(context)],
    ["channels", () => lookAtChannels(context)],
    ["record", () => lookAtRecord(context)],
  ];
  const findings = [...reached];
  for (const [subject, look] of looks) {
    const found = await attempt(subject, context, look);
    findings.push(...found);
    if (subject === "operator key" && found.some(({ state }) => state === "wrong")) break;
  }
  return findings;
}

async function attempt(subject: string, context: CliContext, look: Look): Promise<Finding[]> {
  try {
    return await look();
  } catch (error) {
    if (error instanceof ConfigError)
      return error.problems.map((one) => ({
        subject,
        state: "wrong",
        detail: `${one.key} ${one.problem}`,
        mend: one.mend,
      }));
    if (!(error instanceof ApiError) && !(error instanceof ConnectionError)) throw error;
    return [{ subject, state: "wrong", detail: explain(error, context.settings.url)[0] ?? "" }];
  }
}

async function reach({ api, settings }: CliContext): Promise<Finding[]> {
  const { status, headers, json } = await api.look("/readyz");
  const checks = (json as { checks?: unknown }).checks;
  if (typeof checks !== "object" || checks === null) throw new ConnectionError("not_ephor");
  const failing = Object.entries(checks).filter(([, isGood]) => isGood !== true);
  const serverSeconds = Date.parse(headers.get("date") ?? "") / 1_000;
  const skew = Math.abs(serverSeconds - nowSeconds());
  return [
    { subject: "server", state: "ok", detail: `answers at ${settings.url}` },
    ...failing.map(([name]): Finding => ({
      subject: name,
      state: "wrong",
      detail: "the server says that it is not ready",
      mend: NOT_READY[name] ?? "Look at its log",
    })),
    ...(failing.length === 0 && status === 200
      ? [{ subject: "ready", state: "ok", detail: Object.keys(checks).join(", ") } as const]
      : []),
    Number.isFinite(skew) && skew > SKEW_SECONDS
      ? {
          subject: "clock",
          state: "wrong",
          detail: `this machine and the server differ by ${Math.round(skew)} s`,
          mend: "Let NTP set both clocks",
        }
      : { subject: "clock", state: "ok", detail: "this machine's agrees with the server's" },
  ];
}

async function lookAtIssuer({ api, settings }: CliContext): Promise<Finding[]> {
  const { json } = await api.look("/.well-known/oauth-authorization-server");
  const { issuer } = json as { issuer?: unknown };
  if (issuer === settings.url) return [{ subject: "issuer", state: "ok", detail: settings.url }];
  return [
    {
      subject: "issuer",
      state: settings.isLocal ? "note" : "wrong",
      detail: `the server calls itself ${String(issuer)}, and was reached as ${settings.url}`,
      mend: "Clients compare the two: set EPHOR_URL, or the server's issuer, to the URL by which clients reach it",
    },
  ];
}

async function lookAtKeys(context: CliContext): Promise<Finding[]> {
  const token = await readKeys(context, "/.well-known/jwks.json");
  const record = await readKeys(context, "/.well-known/ephor-record-keys");
  if (token.length < 2 || record.length === 0) {
    return [
      {
        subject: "keys",
        state: "wrong",
        detail: `${token.length} token keys and ${record.length} record keys are published`,
        mend: "There must be an active and a next token key; look at the server's log for its KEK",
      },
    ];
  }
  return [{ subject: "keys", state: "ok", detail: `${token.length} token keys, ${record.length} record keys` }];
}

async function lookAtTrust({ api }: CliContext): Promise<Finding[]> {
  const [issuers, agents, resources, grants] = [
    await readAll(api, "issuers"),
    await readAll(api, "agents"),
    await readAll(api, "resources"),
    await readAll(api, "grants"),
  ];
  const counts = `${issuers.length} issuers, ${agents.length} agents, ${resources.length} resources, ${grants.length} grants`;
  const isEmpty = agents.length === 0;
  return [
    { subject: "operator key", state: "ok", detail: "works" },
    {
      subject: "trust",
      state: isEmpty ? "note" : "ok",
      detail: counts,
      ...(isEmpty && { mend: "Nobody can get a token yet: ephor apply -f FILE" }),
    },
    ...agents.flatMap(({ name, status, spec }): Finding[] => {
      if (status === "suspended") return [{ subject: "agent", state: "note", detail: `${name} is suspended` }];
      const due =
        typeof spec["review_by"] === "string" ? Date.parse(spec["review_by"]) / 1_000 : Number.POSITIVE_INFINITY;
      if (due > nowSeconds() + REVIEW_AHEAD_SECONDS) return [];
      const isOver = due <= nowSeconds();
      return [
        {
          subject: "agent",
          state: isOver ? "wrong" : "note",
          detail: `the review of ${name} ${isOver ? "was" : "is"} due on ${String(spec["review_by"])}`,
          mend: "Review it with its owner and set review_by anew",
        },
      ];
    }),
  ];
}

/** What the server met lately: its own way to an issuer is the one that counts, not this machine's. */
async function lookAtIssuers({ api }: CliContext): Promise<Finding[]> {
  const since = Math.floor(nowSeconds() - RECENT_SECONDS);
  const { events } = await api.get<AuditPage>("/v1/audit", {
    decision: "refused",
    reason: "token_issuer_unreachable",
    since,
    limit: 50,
  });
  if (events.length === 0)
    return [{ subject: "issuers", state: "ok", detail: "none was unreachable in the last hour" }];
  const named = new Set(
    events.map(({ body }) => (body["facts"] as { issuer?: unknown } | undefined)?.issuer ?? "an issuer"),
  );
  return [...named].map((issuer) => ({
    subject: "issuers",
    state: "wrong",
    detail: `${String(issuer)} could not be reached, last at ${events[0]?.at ?? shownInstant(since)}`,
    mend: "See whether its discovery document and keys can be fetched from the server's machine; a private address needs internal: true",
  }));
}

async function lookAtRecord({ api }: CliContext): Promise<Finding[]> {
  const verdict = await api.get<AuditVerdict>("/v1/audit/verify");
  if (verdict.ok) return [{ subject: "record", state: "ok", detail: `${verdict.events} events, the hash chain holds` }];
  return [
    {
      subject: "record",
      state: "wrong",
      detail: `${verdict.problems.length} places do not fit`,
      mend: "ephor audit verify lists them; keep a copy of the database before anything else",
    },
  ];
}
