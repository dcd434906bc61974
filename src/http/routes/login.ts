import { loginView } from "../../api/login.ts";
import { ok, route } from "../route.ts";
import type { Route } from "../route.ts";

/** What a human's machine must know before anybody has signed in; all of it is public at the identity provider too. */
export const loginRoutes: readonly Route[] = [
  route({
    method: "GET",
    path: "/.well-known/ephor-login",
    operationId: "getLogin",
    summary: "Where humans sign in",
    description: "Issuers of the trust file that identify humans and name a `client_id`.",
    tag: "Metadata",
    auth: "none",
    responses: { 200: { description: "The issuers, by name.", body: loginView } },
    handle: async ({ rooms }) => ok(rooms.login()),
  }),
];
