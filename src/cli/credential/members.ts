import type { Vended } from "../../sdk/client/vend.ts";
import { CliFailure } from "../exit-code.ts";

/** A member of a credential that its kind always has. @throws {CliFailure} a server that answers something else */
export function member(vended: Vended, name: string): string {
  const value = vended.credential[name];
  if (typeof value === "string" && value !== "") return value;
  if (typeof value === "number") return String(value);
  throw new CliFailure(`the server's ${vended.kind} credential has no ${name}; is it another version?`);
}

/** The same where it may be absent. */
export function optionalMember(vended: Vended, name: string): string | undefined {
  const value = vended.credential[name];
  return typeof value === "string" || typeof value === "number" ? String(value) : undefined;
}

/** User name and secret for tools that know no other form. */
export function userAndSecret(vended: Vended): { readonly Username: string; readonly Secret: string } {
  switch (vended.kind) {
    case "github_app":
      return { Username: member(vended, "username"), Secret: member(vended, "token") };
    case "oauth":
      return { Username: "oauth2", Secret: member(vended, "access_token") };
    default:
      return { Username: optionalMember(vended, "username") ?? "ephor", Secret: member(vended, "value") };
  }
}
