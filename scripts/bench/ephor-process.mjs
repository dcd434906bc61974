// Ephor as it is deployed: a build, without the loader that runs sources. Its configuration comes from the environment.
import { pathToFileURL } from "node:url";

process.once("message", async ({ build }) => {
  const folder = pathToFileURL(`${build}/`);
  const { loadConfig } = await import(new URL("config.js", folder).href);
  const { startServer } = await import(new URL("server.js", folder).href);
  const server = await startServer(loadConfig());
  const stop = () => server.close().then(() => process.exit(0));
  process.once("SIGTERM", stop);
  process.once("disconnect", stop);
  process.send("ready");
});
