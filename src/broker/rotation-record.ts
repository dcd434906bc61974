import { ProblemError } from "../api/problem.ts";
import type { EventDraft } from "../audit/event.ts";
import type { Asker } from "../core/kill/asker.ts";
import { InvalidTokenError, OAuthError, TemporarilyUnavailableError } from "../core/oauth/errors.ts";
import type { Permit } from "../core/permit.ts";
import { SecretMissingError } from "../vault/secrets.ts";
import type { BrokerDeps } from "./deps.ts";
import { ProviderError } from "./provider-error.ts";
import type { RotationUse } from "./rotation-use.ts";

/** Who asks: `operator:<id>`, an agent, or `ephor` itself. */
export interface RotationAsker {
  readonly by: string;
  readonly requestId?: string | undefined;
  /** What kills whoever asks: they may have been killed while they waited for their turn. */
  readonly kill?: Asker | undefined;
  /** Only if the value is older than this, in seconds, when its turn has come: nobody asked, its time did. */
  readonly dueSeconds?: number;
}

/** A secret that is replaced, by somebody. */
export interface RotationTask extends RotationAsker {
  readonly use: RotationUse;
  /** Names this rotation on the ledger, and to the upstream where it wants to know. */
  readonly id: string;
  readonly why: "asked" | "due" | "left_behind";
}

/** Nothing opens without a permit: a rotation is decided and recorded like everything else. */
export async function permitsFor(deps: BrokerDeps, task: RotationTask): Promise<ReadonlyMap<string, Permit>> {
  const { use, by, why, kill = { keys: [], epochs: [] } } = task;
  const names = use.rotation.secrets(use.settings, use.secret);
  const result = await deps.authorizer.authorize(() => {
    const trustVersion = deps.trust().version;
    return {
      value: undefined,
      ask: {
        action: "secret.rotate",
        target: use.secret,
        actor: by,
        trustVersion,
        kill,
        opens: names,
        event: rotationEvent(task, { secrets: names, why, trust_version: trustVersion }),
      },
    };
  });
  if (result.outcome !== "granted")
    throw new InvalidTokenError({ reason: result.outcome === "continue" ? "internal" : result.outcome });
  return result.opens;
}

/** What a rotation says on the ledger. */
export function rotationEvent(task: RotationTask, facts: EventDraft["facts"]): EventDraft {
  const { use, id } = task;
  return { ...askedEvent(task), resource: use.resource, facts: { rotation: id, secret: use.secret, ...facts } };
}

/** Of somebody who asks for one, without facts. */
export function askedEvent({ by, requestId }: RotationAsker): Omit<EventDraft, "facts"> {
  return { type: "secret.rotate", agent: by, requestId };
}

/** Of a failure, what the ledger may have. */
export function problemOf(error: unknown): { problem?: string; code?: string | undefined } {
  if (error === undefined) return {};
  if (error instanceof ProviderError) return { problem: error.problem, code: error.code };
  if (error instanceof ProblemError) return { problem: error.code };
  return { problem: error instanceof OAuthError ? error.reason : "internal" };
}

/**
 * Records a failure.
 *
 * @returns what the caller may know: in our own words, with the upstream's short code; never what it said
 */
export async function failed(deps: BrokerDeps, task: RotationTask, error: unknown): Promise<unknown> {
  const { resource, secret } = task.use;
  const { problem = "internal", code } = problemOf(error);
  deps.log.warn("rotation_failed", { requestId: task.requestId, resource, name: secret, reason: problem, err: error });
  await deps.recorder.noted(rotationEvent(task, { outcome: "failed", problem, code })).catch(() => {});
  if (error instanceof SecretMissingError)
    return new ProblemError("unprocessable", { detail: `it takes the secret ${error.secret}, which is not set` });
  if (!(error instanceof ProviderError)) return error;
  if (error.isTransient)
    return new TemporarilyUnavailableError({ reason: "upstream_unavailable", resource }, { cause: error });
  const said = code === undefined ? problem : `${problem}, ${code}`;
  return new ProblemError("unprocessable", { detail: `${resource} did not take a new one (${said})`, cause: error });
}
