import type { LoginView } from "../../api/login.ts";
import { createApiClient } from "../../sdk/client/api.ts";
import type { CliContext } from "../context.ts";
import { CliFailure, EXIT, type ExitCode } from "../exit-code.ts";
import { removeLogin, writeLogin } from "../login-file.ts";
import { nowSeconds, shownInstant } from "../moments.ts";

/** What `ephor login` is told. */
export interface LoginOptions {
  readonly issuer?: string;
  readonly device?: boolean;
  /** False by `--no-browser`. */
  readonly browser?: boolean;
  /** Port of the address that the browser comes back to; any free one. */
  readonly port?: string;
  readonly scope?: string;
  readonly logout?: boolean;
}

/** An issuer at which humans sign in. */
export type HumanIssuer = LoginView["issuers"][number];

/**
 * `ephor login`: the human, at an issuer that the server knows as one of humans; the token is kept 0600 for as long as the
 * identity provider says, and nothing that lives longer.
 */
export async function login(context: CliContext, options: LoginOptions): Promise<ExitCode> {
  if (options.logout === true) {
    context.say((await removeLogin(context.settings)) ? "the login is forgotten" : "nobody was logged in here");
    return EXIT.done;
  }
  const issuer = await choose(context, options.issuer);
  const { signIn } = await import("../login/sign-in.ts");
  const kept = await signIn(context, issuer, options);
  await writeLogin(context.settings, { url: context.settings.url, issuer: issuer.name, ...kept });
  const shown = { sub: `${issuer.name}|${kept.sub}`, expires_at: shownInstant(kept.expires_at) };
  if (context.isJson) context.printJson(shown);
  else
    context.say(
      `logged in as ${shown.sub} until ${shown.expires_at} (${Math.round((kept.expires_at - nowSeconds()) / 60)} minutes)`,
    );
  return EXIT.done;
}

async function choose(context: CliContext, name: string | undefined): Promise<HumanIssuer> {
  // Without the operator key: a human's machine has none.
  const { issuers } = await createApiClient({ url: context.settings.url }).get<LoginView>("/.well-known/ephor-login");
  const fitting = issuers.filter((issuer) => name === undefined || issuer.name === name);
  const [only] = fitting;
  if (only !== undefined && fitting.length === 1) return only;
  const known = issuers.map((issuer) => issuer.name).join(", ");
  if (issuers.length === 0)
    throw new CliFailure(
      "this server knows no issuer at which humans sign in; its trust file needs one with identifies: humans and a client_id",
    );
  throw new CliFailure(
    name === undefined ? `say at which issuer: --issuer ${known}` : `there is no issuer ${name}; there are: ${known}`,
    { exitCode: EXIT.wrongUsage },
  );
}
