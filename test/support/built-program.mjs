// `scripts/ephor.mjs` as it is where there are no sources: in an installed package.
process.env.AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED ??= "true";
await import(new URL("../../dist/cli/main.js", import.meta.url).href);
