import { requireString } from "../../core/token/check.ts";
import { pick, type IssuerProfile } from "./profile.ts";

/** Any OIDC issuer: company identity providers, cloud platforms, CI systems without a profile of their own. */
export const generic: IssuerProfile = {
  kind: "generic",
  // Identity providers type the access tokens of service accounts as RFC 9068 says; platforms send `JWT` or nothing.
  typ: [undefined, "jwt", "at+jwt"],
  keyUse: "sig",
  bareHeader: false,
  requireIat: true,
  matches: () => true,
  recognises: () => true,
  check: () => {},
  admits: () => true,
  workload: (claims) => ({
    id: requireString(claims, "sub"),
    display: pick(claims, ["azp", "client_id", "appid", "oid"]),
  }),
};
