import { InvalidClientError } from "../../core/oauth/errors.ts";
import { GRANT_TYPE } from "../../core/oauth/vocabulary.ts";
import { actingAgent } from "../acting-agent.ts";
import { forItself } from "../origin.ts";
import type { Grant } from "./grant.ts";

/** An agent for itself, authenticated by a client assertion (RFC 6749 §4.4, RFC 7523 §2.2). */
export const clientCredentials: Grant = {
  type: GRANT_TYPE.clientCredentials,
  name: "client_credentials",
  words: (outcome) => new InvalidClientError({ reason: outcome }),
  async prove(deps, context) {
    if (
      !context.form.has("client_assertion") &&
      !context.form.has("client_assertion_type") &&
      context.authorization === undefined &&
      !context.form.has("client_secret")
    ) {
      throw new InvalidClientError({ reason: "client_missing" });
    }
    const acting = await actingAgent(deps, context);
    return { acting, origin: forItself(deps, acting, acting.workload) };
  },
};
