import { AccountNeededError } from "../broker/account.ts";
import type { CredentialUse, InjectedCredential } from "../broker/injected.ts";
import type { EventValue } from "../audit/event.ts";
import type { Allowed } from "../core/grants/decision.ts";
import { AccessDeniedError, OAuthError } from "../core/oauth/errors.ts";
import type { Reason } from "../core/oauth/reasons.ts";
import type { ProxiedCall } from "./decided.ts";
import type { ProxyDeps } from "./deps.ts";
import { AccountRequiredError, DeniedError } from "./exchange.ts";

/**
 * The credential that a call needs, made for its place in its task, or made before. What it is asked for is decided by the
 * call's own grants; at the gate the call is then decided on with all that kills the credential.
 *
 * @param at.tell records a refusal, and answers its id
 * @throws {AccountRequiredError} its human has connected no account; {DeniedError} the upstream refuses to make it;
 * {InvalidTokenError} killed or ended; {TemporarilyUnavailableError}; whatever `judge` throws
 */
export async function credentialFor(
  deps: ProxyDeps,
  order: ProxiedCall,
  at: {
    use: CredentialUse;
    action: string;
    judge: () => Allowed;
    tell: (reason: Reason, facts: Readonly<Record<string, EventValue>>) => Promise<string>;
  },
): Promise<InjectedCredential> {
  const { agent, token } = order.holder;
  const { txn, node, killKeys, killEpochs } = token.state;
  let refusal: unknown;
  const judge = (): Allowed => {
    try {
      return at.judge();
    } catch (error) {
      refusal = error;
      throw error instanceof OAuthError ? error : new AccessDeniedError({ reason: "scope_not_granted" });
    }
  };
  try {
    return await deps.injected.obtain({
      into: order.resource.name,
      use: at.use,
      holder: { agent, claims: token.claims, txn, node, killKeys, killEpochs },
      requestId: order.requestId,
      judge,
    });
  } catch (error) {
    if (refusal !== undefined) throw refusal;
    if (!(error instanceof AccessDeniedError)) throw error;
    const decision = await at.tell(error.reason, { ...error.facts, action: at.action });
    if (error instanceof AccountNeededError) throw new AccountRequiredError(decision, error);
    throw new DeniedError(decision, "The credential for this call could not be made.");
  }
}
