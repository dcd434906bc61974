import { GRANT_TYPE } from "../../core/oauth/vocabulary.ts";
import { exchangeWords } from "../issue.ts";
import { proveExchange } from "../origin.ts";
import type { Grant } from "./grant.ts";

/** Token exchange (RFC 8693): the main door. */
export const tokenExchange: Grant = {
  type: GRANT_TYPE.tokenExchange,
  name: "token_exchange",
  words: exchangeWords,
  prove: proveExchange,
};
