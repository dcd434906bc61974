import { fileURLToPath } from "node:url";

/**
 * What tests start as `ephor`, in processes of its own. A whole run takes the build, which it makes before (`scripts/test.mjs`):
 * it starts in half the time. Otherwise the sources.
 */
export const PROGRAM = fileURLToPath(
  new URL(process.env["EPHOR_TEST_BUILD"] === "1" ? "./built-program.mjs" : "../../scripts/ephor.mjs", import.meta.url),
);
