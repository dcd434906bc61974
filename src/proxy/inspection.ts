/**
 * A look at calls and answers by somebody else before they go on (`inspect` of a resource): he may let pass, replace values, or
 * refuse. What he is shown leaves under a permit of its own, like everything that leaves; what he lets through is decided on by
 * the gate as it then is.
 */
import type { EventValue } from "../audit/event.ts";
import type { Ask } from "../authz/ask.ts";
import { deathKeys } from "../core/kill/keys.ts";
import { InvalidTokenError, TemporarilyUnavailableError, type OAuthError } from "../core/oauth/errors.ts";
import type { Permit } from "../core/permit.ts";
import { inspectRuleOf, type InspectRule } from "../core/trust/inspect-schema.ts";
import { Cutting, type CutSignal } from "../system/cutting.ts";
import type { Place } from "../tasks/facts.ts";
import type { DecidedCall, ProxiedCall } from "./decided.ts";
import type { ProxyDeps } from "./deps.ts";
import { askInspector, leadsTo, replacedIn, type Verdict } from "./inspector.ts";
import { spliced } from "./mcp/json-splice.ts";
import { toldBy } from "./told-by.ts";

/** Pointers that one event names. */
const MAX_NAMED = 64;

/** What became of a request that was inspected. */
export type InspectedRequest =
  /** Goes on, perhaps with other arguments. */
  | { readonly kind: "goes"; readonly order: ProxiedCall }
  | { readonly kind: "refused"; readonly reason: InspectionReason; readonly facts: InspectedFacts }
  /** Killed, over or fenced meanwhile. @see its error */
  | { readonly kind: "cut"; readonly error: OAuthError };

/** Why what was inspected does not go on. */
export type InspectionReason = "inspection_refused" | "inspection_failed";

interface InspectedFacts {
  readonly inspected: EventValue;
}

/** The rule by which a call is inspected before it is decided; undefined: it is not. */
export function requestRuleOf(deps: ProxyDeps, { resource, content }: ProxiedCall): InspectRule | undefined {
  if (content === undefined) return undefined;
  const rule = ruleNow(deps, resource.name);
  return rule?.request === true ? rule : undefined;
}

/** @throws {TemporarilyUnavailableError} the resource came to be inspected, or by another rule, since the call was */
export function checkInspected(deps: ProxyDeps, order: ProxiedCall): void {
  const [now, then] = [requestRuleOf(deps, order), order.inspectedBy];
  if (now !== then && JSON.stringify(now) !== JSON.stringify(then))
    throw new TemporarilyUnavailableError({ reason: "stale_trust" });
}

/** The secret that inspecting the answer needs. */
export function answerSecretOf(deps: ProxyDeps, { resource }: ProxiedCall): string | undefined {
  const rule = ruleNow(deps, resource.name);
  return rule?.response === true ? rule.secret : undefined;
}

/** As it is now: it may have changed since the call came in. */
function ruleNow(deps: ProxyDeps, name: string): InspectRule | undefined {
  const now = deps.trust().resourceByName(name);
  return now && inspectRuleOf(now);
}

/**
 * Has a request inspected that grants allow as it is.
 *
 * @throws {InvalidTokenError} the gate saw it killed, ended or replayed, and recorded that; {TemporarilyUnavailableError}
 */
export async function inspectRequest(
  deps: ProxyDeps,
  order: ProxiedCall,
  at: { rule: InspectRule; place: Place; action: string },
): Promise<InspectedRequest> {
  const { rule, place, action } = at;
  const content = order.content?.() ?? { arguments: null, bearer: undefined };
  const about = { action, path: place.node.path };
  const { permit, opens, epoch, keys } = await permitted(deps, order, { rule, place, action });
  const cutting = new Cutting();
  const stream = deps.streams.open({ keys, epoch, exp: order.holder.token.claims.exp, onCut: () => cutting.abort() });
  order.whenGone?.(() => cutting.abort());
  let verdict: Verdict;
  try {
    const key = await keyOf(deps, opens.get(rule.secret), rule);
    const body = payload(order, {
      ...about,
      phase: "request",
      decision: permit.eventId,
      content: { name: "arguments", json: withoutBearer(JSON.stringify(content.arguments), content.bearer) },
    });
    verdict =
      content.unread !== undefined || Buffer.byteLength(body) > rule.maxBytes + HEAD_BYTES
        ? { kind: "failed", problem: content.unread === undefined ? "too_large" : "not_json" }
        : !stream.mayFlow() || !permit.spend(deps.clock.monotonicMs())
          ? { kind: "failed", problem: "aborted" }
          : await askedUntilCut(deps, rule, { key, body, signal: cutting });
  } finally {
    stream.mayFlow();
    stream.close();
  }
  if (stream.cut !== undefined) return { kind: "cut", error: cutError(stream.cut) };
  return outcomeOf(deps, order, { verdict, rule, event: permit.eventId, value: { arguments: content.arguments } });
}

function outcomeOf(
  deps: ProxyDeps,
  order: ProxiedCall,
  at: { verdict: Verdict; rule: InspectRule; event: string; value: { arguments: unknown } },
): InspectedRequest {
  const { verdict, rule, event, value } = at;
  const tell = (facts: Readonly<Record<string, EventValue>>): InspectedFacts => ({
    inspected: { by: event, ...facts },
  });
  const count = (outcome: string): void => deps.metrics.inspections.inc({ resource: order.resource.name, outcome });
  const goes = (as: ProxiedCall, facts: InspectedFacts): InspectedRequest => ({
    kind: "goes",
    order: { ...as, facts: { ...as.facts, ...facts } },
  });
  count(verdict.kind);
  if (verdict.kind === "allow") return goes(order, tell({ verdict: "allow" }));
  if (verdict.kind === "failed") {
    const facts = tell({ verdict: "failed", problem: verdict.problem });
    return rule.failsOpen ? goes(order, facts) : { kind: "refused", reason: "inspection_failed", facts };
  }
  if (verdict.kind === "refuse")
    return { kind: "refused", reason: "inspection_refused", facts: tell({ verdict: "refuse", why: verdict.why }) };
  const paths = verdict.replace.map(({ pointer }) => pointer.slice(0, 256)).slice(0, MAX_NAMED);
  const made = replacedIn(value, verdict.replace) as { arguments: unknown } | undefined;
  const changed = made && order.withArguments?.(made.arguments);
  // It was told to go otherwise than it can: as it is it must not.
  if (changed === undefined)
    return {
      kind: "refused",
      reason: "inspection_refused",
      facts: tell({ verdict: "redact", redacted: paths, problem: "not_applicable" }),
    };
  return goes({ ...order, ...changed }, tell({ verdict: "redact", redacted: paths }));
}

/** Members beside the content: names, ids and headers. */
const HEAD_BYTES = 16 * 1024;

/** Records that the call is shown to its inspector, in one step that sees no kill. */
async function permitted(
  deps: ProxyDeps,
  order: ProxiedCall,
  { rule, place, action }: { rule: InspectRule; place: Place; action: string },
): Promise<{ permit: Permit; opens: ReadonlyMap<string, Permit>; epoch: number; keys: readonly string[] }> {
  const { holder, resource } = order;
  const { state } = holder.token;
  const keys = [...holder.kill.keys, deathKeys.resource(resource.name)];
  const ask = (): Ask => ({
    action: "call.inspect",
    target: resource.name,
    actor: holder.agent.name,
    trustVersion: deps.trust().version,
    kill: { keys, epochs: [...holder.kill.epochs, null] },
    task: { txn: state.txn, nodes: [state.node] },
    opens: [rule.secret],
    event: {
      type: "call.inspect",
      ...toldBy(order),
      facts: { action, path: place.node.path, trust_version: deps.trust().version },
    },
  });
  const result = await deps.authorizer.authorize(() => ({ ask: ask(), value: undefined }));
  if (result.outcome !== "granted")
    throw new InvalidTokenError({ reason: result.outcome === "continue" ? "internal" : result.outcome });
  return { permit: result.permit, opens: result.opens, epoch: result.epoch, keys };
}

/** @throws {TemporarilyUnavailableError} it cannot be opened: nobody could be asked, and that is not the inspector's failure */
async function keyOf(deps: ProxyDeps, permit: Permit | undefined, rule: InspectRule): Promise<string> {
  if (permit === undefined) throw new TemporarilyUnavailableError({ reason: "stale_trust" });
  const { value } = await deps.secrets.open(permit, rule.secret).catch((cause: unknown) => {
    deps.log.warn("proxy_secret_not_opened", { resource: rule.secret, err: cause });
    throw new TemporarilyUnavailableError({ reason: "decrypt_failed", secret: rule.secret }, { cause });
  });
  try {
    return value.use((bytes) => Buffer.from(bytes).toString("utf8"));
  } finally {
    value.wipe();
  }
}

function cutError(cut: "killed" | "expired" | "fenced" | "closing"): OAuthError {
  if (cut === "killed") return new InvalidTokenError({ reason: "killed" });
  if (cut === "expired") return new InvalidTokenError({ reason: "token_expired" });
  return new TemporarilyUnavailableError({ reason: "replica_fenced" });
}

async function askedUntilCut(
  deps: ProxyDeps,
  rule: InspectRule,
  at: { key: string; body: string; signal: CutSignal },
): Promise<Verdict> {
  const stop = new AbortController();
  const abort = (): void => stop.abort();
  if (at.signal.aborted) abort();
  at.signal.addEventListener("abort", abort);
  try {
    return await askInspector(deps, rule, { ...at, signal: stop.signal });
  } finally {
    at.signal.removeEventListener("abort", abort);
  }
}

/** What an inspector is shown. `content.json` is JSON, and goes in as it is: numbers keep their digits. */
function payload(
  { holder, resource, call, exact }: ProxiedCall,
  of: {
    phase: "request" | "response";
    decision: string;
    action: string;
    path: readonly string[];
    content: { name: "arguments" | "body"; json: string };
  },
): string {
  const { phase, decision, action, path, content } = of;
  const { claims, state } = holder.token;
  const head = {
    phase,
    decision,
    agent: holder.agent.name,
    path,
    sub: claims.sub,
    txn: state.txn,
    resource: resource.name,
    action,
    call: phase === "request" ? (exact?.().call ?? call) : call,
  };
  return `${JSON.stringify(head).slice(0, -1)},"${content.name}":${content.json}}`;
}

function withoutBearer(text: string, bearer: string | undefined): string {
  return bearer === undefined || bearer === "" ? text : text.replaceAll(bearer, () => "*".repeat(bearer.length));
}

/** What of an answer goes on; undefined: nothing. */
export type JudgedText = { readonly text: string } | undefined;

/** Inspects what flows back. */
export interface AnswerInspection {
  /** The call's decision. */
  readonly decision: string;
  readonly maxBytes: number;
  /** JSON, strictly read by whoever hands it in. */
  json(text: string): Promise<JudgedText>;
  /** Any other text: as a whole it goes on, is replaced, or does not. */
  text(text: string): Promise<JudgedText>;
  /** What cannot be judged. @returns whether it goes on all the same */
  unjudged(problem: string): boolean;
  /** The caller was told that the answer he waits for was refused; so the call did not end well, though whole. */
  isAnswerRefused: boolean;
  /** For the record. */
  facts(): Readonly<Record<string, EventValue>>;
}

/**
 * @param at.signal of the flight: a kill ends what is asked
 * @returns undefined where answers are not inspected
 * @throws {TemporarilyUnavailableError} its secret cannot be opened
 */
export async function answerInspection(
  deps: ProxyDeps,
  at: { call: ProxiedCall; decided: DecidedCall; signal: CutSignal },
): Promise<AnswerInspection | undefined> {
  const { call, decided, signal } = at;
  const rule = ruleNow(deps, call.resource.name);
  if (rule?.response !== true) return undefined;
  const key = await keyOf(deps, decided.opens.get(rule.secret), rule);
  const counts = { allow: 0, redact: 0, refuse: 0, failed: 0 };
  const redacted: string[] = [];
  let problem: string | undefined;
  let why: string | undefined;

  function counted(kind: keyof typeof counts): void {
    counts[kind]++;
    deps.metrics.inspections.inc({ resource: call.resource.name, outcome: kind });
  }

  function unjudged(what: string): boolean {
    counted("failed");
    problem ??= what;
    return rule?.failsOpen === true;
  }

  async function judged(json: string, apply: (verdict: Extract<Verdict, { kind: "redact" }>) => JudgedText) {
    if (Buffer.byteLength(json) > (rule?.maxBytes ?? 0)) return unjudged("too_large") ? "goes" : undefined;
    const { action, path, eventId: decision } = decided;
    const body = payload(call, { phase: "response", decision, action, path, content: { name: "body", json } });
    const verdict = await askedUntilCut(deps, rule as InspectRule, { key, body, signal });
    if (verdict.kind === "failed") return unjudged(verdict.problem) ? "goes" : undefined;
    counted(verdict.kind);
    if (verdict.kind === "allow") return "goes";
    if (verdict.kind === "refuse") {
      why ??= verdict.why;
      return undefined;
    }
    const made = apply(verdict);
    if (made === undefined) problem ??= "not_applicable";
    else
      redacted.push(
        ...verdict.replace.map(({ pointer }) => pointer.slice(0, 256)).slice(0, MAX_NAMED - redacted.length),
      );
    return made;
  }

  return {
    decision: decided.eventId,
    maxBytes: rule.maxBytes,
    isAnswerRefused: false,
    unjudged,
    async json(text) {
      const outcome = await judged(text, ({ replace }) => {
        const whole = { body: JSON.parse(text) as unknown };
        // Each must be there when its turn comes: an earlier one may have taken it away.
        if (replacedIn(whole, replace) === undefined || !replace.every(({ steps }) => leadsTo(whole, steps)))
          return undefined;
        const splices = replace.map(({ steps, value }) => ({ path: steps.slice(1), to: JSON.stringify(value) }));
        return { text: spliced(text, splices) };
      });
      return outcome === "goes" ? { text } : outcome;
    },
    async text(text) {
      const outcome = await judged(JSON.stringify(text), ({ replace }) => {
        const made = replacedIn({ body: text }, replace) as { body: unknown } | undefined;
        return typeof made?.body === "string" ? { text: made.body } : undefined;
      });
      return outcome === "goes" ? { text } : outcome;
    },
    facts: () =>
      Object.values(counts).every((count) => count === 0)
        ? {}
        : { inspected: { ...counts, ...(redacted.length > 0 && { redacted: [...redacted] }), problem, why } },
  };
}
