import type { AuditEvent, AuditPage, AuditVerdict } from "../../api/audit.ts";
import type { Chain } from "../../api/chains.ts";
import type { RecordingsErased, RecordingView } from "../../api/recordings.ts";
import type { Who } from "../../api/who.ts";
import { ApiError, ConnectionError } from "../../sdk/client/errors.ts";
import { chainTree } from "../chain-tree.ts";
import type { CliContext } from "../context.ts";
import { CliFailure, EXIT, type ExitCode } from "../exit-code.ts";
import { shownInstant } from "../moments.ts";
import { printable, printableJson } from "../printable.ts";
import { auditLines, isKept, recordingLines, unkeptLines } from "./audit-lines.ts";
import { queryOf, type LedgerFilters } from "./ledger-filters.ts";

/** `ephor chain TXN`: a task with all its agents and tokens. */
export async function chain(context: CliContext, txn: string): Promise<ExitCode> {
  const found = await context.api.get<Chain>(`/v1/chains/${encodeURIComponent(txn)}`);
  if (context.isJson) context.printJson(found);
  else context.print(...chainTree(found));
  return EXIT.done;
}

/** How tokens of GitHub, GitLab, Slack and OAuth servers begin, and JWTs. */
const LOOKS_LIKE_TOKEN = /^(?:gh[a-z]_|github_pat_|glpat-|xox[a-z]-|ya29\.|eyJ)/;

/** `ephor who ID`: who is behind an id. A token itself is not sent: URLs are in logs. */
export async function who(context: CliContext, id: string): Promise<ExitCode> {
  if (LOOKS_LIKE_TOKEN.test(id)) {
    throw new CliFailure(
      "that looks like a token, and was not sent; ask for its SHA-256: printf %s TOKEN | sha256sum",
      {
        exitCode: EXIT.wrongUsage,
      },
    );
  }
  const answer = await context.api.get<Who>(`/v1/who/${encodeURIComponent(id)}`);
  if (context.isJson) context.printJson(answer);
  else context.print(...answer.matches.flatMap(shownMatch));
  return EXIT.done;
}

function shownMatch(match: Who["matches"][number]): string[] {
  const facts: [string, string | undefined][] = [
    ["on behalf of", match.sub],
    ["by", match.path?.join(" → ")],
    ["owner", match.owner],
    ["purpose", match.purpose],
    ["resource", match.resource],
    ["scopes", match.scopes?.join(" ")],
    ["granted by", match.grants?.join(" ")],
    ["credential", match.lease && `${match.lease.lease}, ${match.lease.kind}`],
    ["chain", match.txn],
    ["token", match.kind === "jti" ? undefined : match.jti],
    ["at", match.at === undefined ? undefined : shownInstant(match.at)],
    ["until", match.exp === undefined ? undefined : shownInstant(match.exp)],
    ["ended", match.lease?.ended_at === undefined ? undefined : endOf(match.lease.ended_at, match.lease.because)],
  ];
  const head = [match.kind.replaceAll("_", " "), match.status ?? match.lease?.status ?? ""].join(" ").trim();
  return [
    head,
    ...facts.flatMap(([word, value]) => (value === undefined ? [] : [`  ${word.padEnd(13)}${printable(value)}`])),
  ];
}

function endOf(at: number, because: string | undefined): string {
  return because === undefined ? shownInstant(at) : `${shownInstant(at)}, ${because.replaceAll("_", " ")}`;
}

/** `ephor audit`: events, newest first. @param withArguments also what was kept of calls; each look is recorded */
export async function audit(
  context: CliContext,
  filters: LedgerFilters,
  { limit, withArguments }: { limit: number; withArguments: boolean },
): Promise<ExitCode> {
  const page = await context.api.get<AuditPage>("/v1/audit", { ...queryOf(filters), limit });
  if (context.isJson) {
    const recordings = withArguments ? { recordings: await recordingsOf(context, page.events) } : {};
    context.printJson({ ...page, ...recordings });
  } else {
    for (const { text, events } of auditLines(page.events)) {
      context.print(text);
      for (const event of withArguments ? events : []) context.print(...(await keptLines(context, event)));
    }
  }
  if (page.next !== undefined) context.say(`older ones: --until, or a larger --limit (now ${limit})`);
  return EXIT.done;
}

async function recordingsOf(context: CliContext, events: readonly AuditEvent[]): Promise<RecordingView[]> {
  const found: RecordingView[] = [];
  for (const event of events.filter(isKept)) {
    const one = await recordingOf(context, event);
    if (one !== undefined) found.push(one);
  }
  return found;
}

/** Undefined for one that went by its age. */
async function recordingOf({ api }: CliContext, { id }: AuditEvent): Promise<RecordingView | undefined> {
  try {
    return await api.get<RecordingView>(`/v1/audit/${encodeURIComponent(id)}/recording`);
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return undefined;
    throw error;
  }
}

async function keptLines(context: CliContext, event: AuditEvent): Promise<string[]> {
  const part = partOf(event);
  return isKept(event) ? recordingLines(part, await recordingOf(context, event)) : unkeptLines(part, event);
}

function partOf({ type }: AuditEvent): string {
  return type === "call.outcome" ? "answer" : "arguments";
}

/** `ephor audit erase EVENT`: what was kept of a call goes; that it went stays. */
export async function eraseRecording(context: CliContext, id: string, reason: string): Promise<ExitCode> {
  const { erased } = await context.api.delete<Partial<RecordingsErased>>(
    `/v1/audit/recordings/${encodeURIComponent(id)}`,
    { reason },
  );
  if (!Array.isArray(erased)) throw new ConnectionError("not_ephor");
  if (context.isJson) context.printJson({ erased });
  else if (erased.length === 0) context.print(`it was erased before: ${printable(id)}`);
  else context.print(...erased.map((event) => `erased: ${printable(event)}`));
  return EXIT.done;
}

/** `ephor audit export`: every event as a line of JSON, oldest first, as it comes. */
export async function exportAudit(
  context: CliContext,
  filters: LedgerFilters,
  format: string | undefined,
): Promise<ExitCode> {
  for await (const line of context.api.lines("/v1/audit/export", { ...queryOf(filters), format })) {
    // Into a file every byte as it is; on a terminal nothing that it would obey.
    context.io.out(`${context.io.isOutTerminal ? printableJson(line) : line}\n`);
  }
  return EXIT.done;
}

/** `ephor audit verify`: checks the hash chain and its signed heads; fails when anything does not fit. */
export async function verifyAudit(context: CliContext): Promise<ExitCode> {
  const verdict = await context.api.get<AuditVerdict>("/v1/audit/verify");
  if (context.isJson) context.printJson(verdict);
  else context.print(...shownVerdict(verdict));
  return verdict.ok === true ? EXIT.done : EXIT.failed;
}

function shownVerdict(verdict: AuditVerdict): string[] {
  const size = `${verdict.events} events in ${verdict.streams.length} streams, ${verdict.heads} signed heads`;
  if (verdict.ok) return [`ok: ${size}`];
  return [
    `NOT OK: ${size}`,
    ...verdict.problems.map((problem) => {
      const place = [
        problem.stream,
        problem.seq,
        problem.head === undefined ? undefined : `head ${problem.head}`,
      ].filter((part) => part !== undefined);
      return `  ${printable([place.join(" "), problem.kind, problem.detail].join(": "))}`;
    }),
  ];
}
