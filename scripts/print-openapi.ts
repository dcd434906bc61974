/** Writes openapi/openapi.json from the routes. A test compares the file with what this would write. */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { openApiDocument, printOpenApi } from "../src/http/openapi.ts";
import { routes } from "../src/http/routes/all.ts";
import { formRoutes } from "../src/http/routes/oauth.ts";

const root = new URL("../", import.meta.url);
const { version } = JSON.parse(readFileSync(new URL("package.json", root), "utf8")) as { version: string };
const document = openApiDocument({ version, routes, forms: formRoutes });
mkdirSync(new URL("openapi/", root), { recursive: true });
writeFileSync(new URL("openapi/openapi.json", root), printOpenApi(document));
