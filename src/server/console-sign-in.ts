import type { PageRequest } from "../api/pages.ts";
import type { ConsolePorts } from "../console/page.ts";
import { OAuthError } from "../core/oauth/errors.ts";
import type { Federation } from "../federation/federation.ts";
import { createSignIn } from "../operators/sign-in.ts";
import type { Sessions } from "../operators/sessions.ts";
import type { Egress } from "../system/egress.ts";
import type { ConsoleParts } from "./console-room.ts";

/** What signing in at an issuer needs beside the rest of the console. */
export interface SignInParts {
  readonly federation: Federation;
  readonly egress: Egress;
  /** Shared by all replicas. */
  readonly secret: () => Uint8Array;
}

/** Signing in at an issuer: begun and ended, recorded whatever comes of it. */
export function signInPorts(
  parts: ConsoleParts & SignInParts,
  sessions: Sessions,
): Pick<ConsolePorts, "issuers" | "beginSignIn" | "completeSignIn"> {
  const { recorder, refusedAtEdge } = parts;
  const signIn = createSignIn({ ...parts, issuerUrl: parts.issuer });
  const refused = (error: OAuthError, { requestId, remoteAddress }: PageRequest): void =>
    refusedAtEdge({ reason: error.reason, requestId, route: "GET /console/callback", remoteAddress });
  return {
    issuers: signIn.issuers,
    beginSignIn: ({ issuer, next, fresh }) => signIn.begin(issuer, { returnTo: next, fresh }),
    async completeSignIn(request) {
      try {
        const { person, issuerUrl, returnTo, cookie } = await signIn.complete(request.query, request.cookies);
        const opened = await sessions.open({ kind: "person", person, issuerUrl }, request.cookies);
        // Whoever was stopped comes in only if he is an operator.
        const session = await sessions.find(opened.split(";")[0]);
        const agent = session?.operator === undefined ? `human:${person.sub}` : `operator:${session.operator.name}`;
        const draft = {
          type: "operator.sign_in",
          agent,
          requestId: request.requestId,
          facts: { by: person.issuer, person: person.sub },
        } as const;
        if (session === undefined) {
          await recorder.refused(draft, "killed");
          return { cookies: [cookie], refusal: "killed" };
        }
        await recorder.noted(draft);
        return { cookies: [cookie, opened], next: returnTo };
      } catch (error) {
        if (!(error instanceof OAuthError)) throw error;
        refused(error, request);
        return { cookies: [signIn.forget], refusal: error.reason };
      }
    },
  };
}
