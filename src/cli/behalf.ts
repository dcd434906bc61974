import type { TypedToken } from "../sdk/client/exchange.ts";
import { readTokenFile } from "../sdk/client/platform-token.ts";
import type { CliContext } from "./context.ts";
import { CliFailure, EXIT } from "./exit-code.ts";
import { readLogin } from "./login-file.ts";
import { nowSeconds } from "./moments.ts";

const FILE_PREFIX = "token-file:";

/**
 * On whose behalf: `me` is who logged in by `ephor login`; `token-file:PATH` (or a path alone) is a token in a file.
 *
 * @param fileType what a token in a file is
 * @throws {CliFailure} nobody has logged in here, or no longer
 */
export async function readBehalf(
  context: CliContext,
  text: string,
  fileType: TypedToken["type"] = "jwt",
): Promise<TypedToken> {
  if (text !== "me") {
    const path = text.startsWith(FILE_PREFIX) ? text.slice(FILE_PREFIX.length) : text;
    return { token: await readTokenFile(path), type: fileType };
  }
  const login = await readLogin(context.settings);
  if (login === undefined)
    throw new CliFailure("nobody is logged in here; ephor login", { exitCode: EXIT.unauthenticated });
  if (login.expires_at <= nowSeconds())
    throw new CliFailure(`the login of ${login.sub} is over; ephor login`, { exitCode: EXIT.unauthenticated });
  return { token: login.token, type: login.type };
}
