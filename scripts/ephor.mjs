#!/usr/bin/env node
// Starts the command line: from the sources in a clone (through tsx, in this process), from the build in an installed
// package. A clone whose tools were pruned falls back to its build.
import { existsSync } from "node:fs";

// The AWS SDK warns about this Node on standard error, which belongs to our own words; it reads exactly "true".
process.env.AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED ??= "true";

const source = new URL("../src/cli/main.ts", import.meta.url);
const build = new URL("../dist/cli/main.js", import.meta.url);

const main = existsSync(source) && (await canRunSources()) ? source : build;
if (main === build && !existsSync(build)) {
  console.error(
    "ephor: neither the tools that run the sources nor a build are here; run `npm ci`, or `npm run build`.",
  );
  process.exitCode = 1;
} else {
  await import(main.href);
}

async function canRunSources() {
  try {
    const { register } = await import("tsx/esm/api");
    register();
    return true;
  } catch (error) {
    if (error?.code === "ERR_MODULE_NOT_FOUND") return false;
    throw error;
  }
}
