import { InvalidTokenError } from "../core/oauth/errors.ts";
import { refused, type ProxiedCall } from "./decided.ts";
import type { ProxyDeps } from "./deps.ts";

/**
 * To be asked before anything is done that the gate is not asked about: the token may have ended since it was first seen.
 *
 * @throws {InvalidTokenError} recorded
 */
export async function checkLives(deps: ProxyDeps, call: ProxiedCall): Promise<void> {
  if (await deps.stillLives(call.holder)) return;
  await refused(deps, call, new InvalidTokenError({ reason: "token_revoked" }));
}
