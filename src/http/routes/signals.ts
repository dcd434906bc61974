import { z } from "zod";
import { signalError, signalParams, type SignalErrorCode } from "../../api/signals.ts";
import type { Reason } from "../../core/oauth/reasons.ts";
import { OUTSIDE_TOKEN_MAX_BYTES } from "../../core/token/jws.ts";
import { RefusedToken } from "../../core/token/refused.ts";
import { route, type Answer, type Route } from "../route.ts";

/** Codes of RFC 8935 §2.4 by reason; whatever else is wrong is the request's fault. */
const CODES: Readonly<Partial<Record<Reason, SignalErrorCode>>> = {
  token_alg: "invalid_key",
  token_key_unknown: "invalid_key",
  token_signature: "invalid_key",
  transmitter_unknown: "invalid_key",
  token_issuer_unknown: "invalid_issuer",
  token_audience: "invalid_audience",
  transmitter_secret_wrong: "authentication_failed",
  signal_subject_foreign: "access_denied",
};

const DESCRIPTIONS: Readonly<Record<SignalErrorCode, string>> = {
  invalid_request: "The body is no security event that can be accepted, or it is too old.",
  invalid_key: "The event is not signed by a key of this stream's transmitter.",
  invalid_issuer: "The event is of another issuer than this stream's transmitter.",
  invalid_audience: "The event is not addressed to this stream's audience.",
  authentication_failed: "The stream's shared secret is missing or wrong.",
  access_denied: "This transmitter may not speak of that subject.",
};

/** What an operator must mend at the transmitter gets a sentence of its own; it is signed, so it may know. */
const SENTENCES: Readonly<Partial<Record<Reason, string>>> = {
  signal_subject_unsupported: "The subject must be of format iss_sub, alone or as the user of a complex subject.",
  signal_is_token: "A security event must have neither sub nor exp.",
  signal_events: "A security event must have exactly one event.",
};

function refusal({ reason }: RefusedToken): Answer {
  const err = CODES[reason] ?? "invalid_request";
  const json = { err, description: SENTENCES[reason] ?? DESCRIPTIONS[err] };
  return { status: 400, json, headers: { "Content-Language": "en" } };
}

/** Where identity providers push their security events (RFC 8935). */
export const signalRoutes: readonly Route[] = [
  route({
    method: "POST",
    path: "/ssf/events/{issuer}",
    operationId: "receiveSecurityEvent",
    summary:
      "Takes a security event of an identity provider: a person disabled there loses their agents here (RFC 8935)",
    description:
      "The event's signature authenticates it. 202 says that what it means stands everywhere, or was done before; 400 is final, 503 is to be tried again. " +
      "An issuer that is not in the trust file, or has no `shared_signals`, answers like a wrong key.",
    tag: "Shared Signals",
    auth: "transmitter",
    params: signalParams,
    body: z.string().describe("The event: a JWT of `typ` `secevent+jwt` in compact serialisation."),
    textType: "application/secevent+jwt",
    maxBodyBytes: OUTSIDE_TOKEN_MAX_BYTES,
    responses: {
      202: { description: "Done, or noted where it has no effect here." },
      400: { description: "Not accepted, and never will be.", body: signalError },
    },
    async handle({ rooms, params, body, request }) {
      const { requestId, remoteAddress, credentials } = request;
      try {
        await rooms.signals.receive({
          name: params.issuer,
          token: body,
          authorization: credentials.authorization,
          requestId,
          remoteAddress,
        });
      } catch (error) {
        if (error instanceof RefusedToken) return refusal(error);
        throw error;
      }
      return { status: 202 };
    },
  }),
];
