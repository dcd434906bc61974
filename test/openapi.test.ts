import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, it } from "node:test";
import { Ajv2020 } from "ajv/dist/2020.js";
import { openApiDocument, printOpenApi } from "../src/http/openapi.ts";
import { routes } from "../src/http/routes/all.ts";
import { formRoutes } from "../src/http/routes/oauth.ts";
import { AGENT, OPERATOR, startEdge, TXN } from "./http/edge-server.ts";

interface Operation {
  operationId: string;
  tags: string[];
  summary: string;
  security: Record<string, string[]>[];
  parameters?: { name: string; in: string; required: boolean; schema: object }[];
  requestBody?: { content: Record<string, { schema: object }> };
  responses: Record<string, { description: string; content?: Record<string, { schema: object }> }>;
}

interface Document {
  openapi: string;
  info: Record<string, unknown>;
  tags: { name: string }[];
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, object>; securitySchemes: Record<string, object> };
}

const root = new URL("../", import.meta.url);
const { version } = JSON.parse(readFileSync(new URL("package.json", root), "utf8")) as { version: string };
const generated = openApiDocument({ version, routes, forms: formRoutes });
const document = JSON.parse(printOpenApi(generated)) as Document;

const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => ({ path, method, operation, title: `${method} ${path}` })),
);

/** Every member called `$ref`, wherever it stands. */
function* references(value: unknown): Generator<string> {
  if (typeof value !== "object" || value === null) return;
  for (const [name, member] of Object.entries(value)) {
    if (name === "$ref" && typeof member === "string") yield member;
    else yield* references(member);
  }
}

function validator(): Ajv2020 {
  const ajv = new Ajv2020({ strict: false, validateFormats: false });
  ajv.addSchema({ $id: "document", ...document });
  return ajv;
}

const pointer = (...steps: string[]): string =>
  `document#/${steps.map((step) => step.replaceAll("~", "~0").replaceAll("/", "~1")).join("/")}`;

describe("the OpenAPI document", () => {
  it("is the committed one (npm run openapi)", () => {
    assert.equal(readFileSync(new URL("openapi/openapi.json", root), "utf8"), printOpenApi(generated));
  });

  it("is the served one, byte for byte", async (t) => {
    const edge = await startEdge(t, { deps: { version } });
    const reply = await edge.send("GET", "/openapi.json");
    assert.equal(reply.headers["content-type"], "application/json");
    assert.equal(reply.text, printOpenApi(generated));
  });

  it("has every route, and no other", () => {
    const listed = operations.map(({ title }) => title).sort();
    const served = [...routes, ...formRoutes].map(({ method, path }) => `${method.toLowerCase()} ${path}`).sort();
    assert.deepEqual(listed, served);
  });

  it("gives every operation an id of its own, a known tag, a summary, and who may call it", () => {
    const ids = operations.map(({ operation }) => operation.operationId);
    assert.equal(new Set(ids).size, ids.length);
    const tags = new Set(document.tags.map(({ name }) => name));
    for (const { operation, title } of operations) {
      assert.match(operation.operationId, /^[a-z][A-Za-z]+$/, title);
      assert.ok(operation.tags.length === 1 && operation.tags.every((tag) => tags.has(tag)), title);
      assert.ok(operation.summary.length > 0 && !operation.summary.endsWith("."), title);
      for (const scheme of operation.security.flatMap((each) => Object.keys(each))) {
        assert.ok(Object.hasOwn(document.components.securitySchemes, scheme), title);
      }
    }
  });

  it("names the scope of every /v1 route that has one", () => {
    for (const route of routes) {
      const security = document.paths[route.path]?.[route.method.toLowerCase()]?.security ?? [];
      if (typeof route.auth === "object") {
        const scope = [`ephor:${route.auth.scope}`];
        assert.deepEqual(security, [{ operator: [] }, { session: scope }, { token: scope }]);
      }
      if (route.path.startsWith("/v1/")) assert.ok(security.length > 0, route.path);
    }
  });

  it("describes success or its absence, and at least one refusal, for every operation", () => {
    for (const { operation, title } of operations) {
      const statuses = Object.keys(operation.responses).map(Number);
      assert.ok(
        statuses.some((status) => status >= 400 && status < 500),
        title,
      );
      assert.ok(title === "get /authorize" || statuses.some((status) => status >= 200 && status < 300), title);
    }
  });

  it("declares exactly the parameters that a path has", () => {
    for (const { path, operation, title } of operations) {
      const inPath = [...path.matchAll(/\{(\w+)\}/g)].map((match) => match[1]);
      const declared = (operation.parameters ?? []).filter((parameter) => parameter.in === "path");
      assert.deepEqual(declared.map(({ name }) => name).sort(), inPath.sort(), title);
      assert.ok(
        declared.every(({ required }) => required),
        title,
      );
    }
  });

  it("refers to nothing that is not there, and names nothing that nobody uses", () => {
    const used = new Set(references(document));
    for (const reference of used) {
      const name = reference.replace("#/components/schemas/", "");
      assert.ok(Object.hasOwn(document.components.schemas, name), reference);
    }
    for (const name of Object.keys(document.components.schemas))
      assert.ok(used.has(`#/components/schemas/${name}`), name);
  });

  it("holds schemas of JSON Schema 2020-12 only (OpenAPI 3.1 §4.8.24)", () => {
    const ajv = validator();
    for (const name of Object.keys(document.components.schemas)) {
      assert.equal(typeof ajv.getSchema(pointer("components", "schemas", name)), "function", name);
    }
  });

  it("fits what the routes answer", async (t) => {
    const ajv = validator();
    const edge = await startEdge(t);
    const bodies: Record<string, object> = {
      openTask: { purpose: "p" },
      kill: { agent: "bot", reason: "r" },
      restore: { agent: "bot", reason: "r" },
      setAgentStatus: { status: "suspended", reason: "r" },
      applyTrustFile: { source: "t.yaml", file: "" },
    };
    for (const { path, method, operation, title } of operations) {
      if (operation.tags[0] === "OAuth") continue;
      const isAgents = operation.security.some((scheme) => Object.hasOwn(scheme, "agent"));
      const target = path
        .replaceAll("{txn}", TXN)
        .replaceAll("{id}", TXN)
        .replace("{kind}", "mcp")
        .replace("{name}", path.includes("{kind}") ? "tickets" : "bot");
      const headers: [string, string][] = [["Authorization", isAgents ? AGENT : OPERATOR]];
      if (operation.requestBody) headers.push(["Content-Type", "application/json"]);
      const body = operation.requestBody ? JSON.stringify(bodies[operation.operationId] ?? {}) : undefined;
      const reply = await edge.send(method.toUpperCase(), target, { headers, ...(body !== undefined && { body }) });
      const declared = operation.responses[String(reply.status)];
      assert.ok(declared, `${title} answered ${reply.status}, which is not in the document`);
      const type = String(reply.headers["content-type"]).split(";")[0] ?? "";
      assert.ok(declared.content?.[type], `${title} answered ${type}`);
      if (!/[/+]json$/.test(type)) continue;
      const steps = ["paths", path, method, "responses", String(reply.status), "content", type, "schema"];
      const validate = ajv.getSchema(pointer(...steps));
      assert.ok(validate?.(reply.json()), `${title}: ${JSON.stringify(validate?.errors)}`);
    }
  });
});
