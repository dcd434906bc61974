/** What the MCP conformance suite expects of a server: tools, prompts and resources under its own names, as plain data. */

export type Json = Record<string, unknown>;

/** What a tool has beside its arguments. */
export interface Talk {
  /** Of the request's `_meta`. */
  readonly progressToken: string | number | undefined;
  notify(method: string, params: Json): Promise<void>;
  /** A request to the client: only before 2026-07-28. */
  ask(method: string, params: Json): Promise<Json>;
  /** Ends the answer's event stream, which the client resumes. */
  hangUp(): void;
  /** What the client answered to a result that asked for input (2026-07-28). */
  readonly responses: Json | undefined;
  /** As it was sealed by {@link Talk.seal}. */
  readonly state: Json | undefined;
  seal(state: Json): Promise<string>;
  /** What the client declared for this request (2026-07-28). */
  readonly capabilities: Json;
  /** Refuses what needs a capability that was not declared. */
  demand(capability: "sampling" | "elicitation"): void;
  /** Tells whoever listens that a list is another one. */
  changed(list: "tools" | "prompts"): void;
}

export interface Offer {
  readonly name: string;
  readonly inputSchema?: Json;
  /** Served only by the revision without sessions, or only by those before. */
  readonly era?: "modern" | "legacy";
  act(args: Json, talk: Talk): Promise<Json>;
}

const PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg==";
const WAV = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA=";

const text = (said: string): Json => ({ type: "text", text: said });
const done = (...content: Json[]): Json => ({ content });
const pause = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 50));
const embedded = (uri: string, said: string): Json => ({
  type: "resource",
  resource: { uri, mimeType: "text/plain", text: said },
});
const object = (properties: Json, required: string[] = []): Json => ({ type: "object", properties, required });
const strings = (...names: string[]): Json =>
  object(Object.fromEntries(names.map((name) => [name, { type: "string" }])), names);
const titled = (kind: string): Json[] =>
  ["First", "Second", "Third"].map((word, i) => ({ const: `value${i + 1}`, title: `${word} ${kind}` }));
const OPTIONS = ["option1", "option2", "option3"];

/** SEP-1034 and SEP-1330: every sort of field that a form may have. */
const DEFAULTS = object({
  name: { type: "string", default: "John Doe" },
  age: { type: "integer", default: 30 },
  score: { type: "number", default: 95.5 },
  status: { type: "string", enum: ["active", "inactive", "pending"], default: "active" },
  verified: { type: "boolean", default: true },
});
const ENUMS = object({
  untitledSingle: { type: "string", enum: OPTIONS },
  titledSingle: { type: "string", oneOf: titled("Option") },
  legacyEnum: {
    type: "string",
    enum: ["opt1", "opt2", "opt3"],
    enumNames: ["Option One", "Option Two", "Option Three"],
  },
  untitledMulti: { type: "array", minItems: 1, maxItems: 3, items: { type: "string", enum: OPTIONS } },
  titledMulti: { type: "array", minItems: 1, maxItems: 3, items: { anyOf: titled("Choice") } },
});

/** SEP-1613 and SEP-2106: a schema that intermediaries must hand on as it is. */
const SCHEMA_2020_12: Json = {
  $schema: "https://json-schema.org/draft/2020-12/schema",
  type: "object",
  $defs: {
    address: {
      $anchor: "addressDef",
      type: "object",
      properties: { street: { type: "string" }, city: { type: "string" } },
    },
  },
  properties: {
    name: { type: "string" },
    address: { $ref: "#/$defs/address" },
    contactMethod: { type: "string", enum: ["phone", "email"] },
    phone: { type: "string" },
    email: { type: "string" },
  },
  allOf: [{ anyOf: [{ required: ["phone"] }, { required: ["email"] }] }],
  if: { properties: { contactMethod: { const: "phone" } }, required: ["contactMethod"] },
  // oxlint-disable-next-line unicorn/no-thenable -- a keyword of JSON Schema
  then: { required: ["phone"] },
  else: { required: ["email"] },
  additionalProperties: false,
};

const elicit = (message: string, requestedSchema: Json): Json => ({
  method: "elicitation/create",
  params: { message, requestedSchema },
});
const sample = (said: string, maxTokens = 100): Json => ({
  method: "sampling/createMessage",
  params: { messages: [{ role: "user", content: text(said) }], maxTokens },
});
const ROOTS: Json = { method: "roots/list", params: {} };
const YES = object({ ok: { type: "boolean" } }, ["ok"]);

/** A result that is complete only with the client's answers (SEP-2322). */
const input = (inputRequests: Json, requestState?: string): Json => ({
  resultType: "input_required",
  inputRequests,
  ...(requestState !== undefined && { requestState }),
});
/** The content of a form that was accepted; undefined for any other answer, or none. */
function form(talk: Talk, key: string): Json | undefined {
  const given = talk.responses?.[key] as { action?: unknown; content?: Json } | null | undefined;
  return typeof given === "object" && given?.action === "accept" ? (given.content ?? {}) : undefined;
}

async function ask(talk: Talk, { method, params }: Json, told: (answer: Json) => string): Promise<Json> {
  try {
    return done(text(told(await talk.ask(method as string, params as Json))));
  } catch (error) {
    return { ...done(text(`The client does not answer: ${String(error)}`)), isError: true };
  }
}
const outcome = ({ action, content }: Json): string => `action=${String(action)}, content=${JSON.stringify(content)}`;

const NAME = { user_name: elicit("What is your name?", strings("name")) };

export const TOOLS: readonly Offer[] = [
  { name: "test_simple_text", act: async () => done(text("This is a simple text response for testing.")) },
  { name: "test_image_content", act: async () => done({ type: "image", data: PNG, mimeType: "image/png" }) },
  { name: "test_audio_content", act: async () => done({ type: "audio", data: WAV, mimeType: "audio/wav" }) },
  {
    name: "test_embedded_resource",
    act: async () => done(embedded("test://embedded-resource", "This is an embedded resource content.")),
  },
  {
    name: "test_multiple_content_types",
    act: async () =>
      done(
        text("Multiple content types test:"),
        { type: "image", data: PNG, mimeType: "image/png" },
        {
          type: "resource",
          resource: { uri: "test://mixed-content-resource", mimeType: "application/json", text: '{"test":"data"}' },
        },
      ),
  },
  {
    name: "test_tool_with_logging",
    era: "legacy",
    async act(_args, talk) {
      for (const data of ["Tool execution started", "Tool processing data", "Tool execution completed"]) {
        await talk.notify("notifications/message", { level: "info", data });
        await pause();
      }
      return done(text("Three lines were logged."));
    },
  },
  {
    name: "test_tool_with_progress",
    async act(_args, { progressToken, notify }) {
      for (const progress of [0, 50, 100]) {
        if (progressToken !== undefined)
          await notify("notifications/progress", { progressToken, progress, total: 100 });
        await pause();
      }
      return done(text("All of it is done."));
    },
  },
  {
    name: "test_error_handling",
    act: async () => ({ ...done(text("This tool intentionally returns an error for testing")), isError: true }),
  },
  {
    name: "test_reconnection",
    era: "legacy",
    async act(_args, talk) {
      talk.hangUp();
      await pause();
      await pause();
      return done(text("Whoever reads this came back for it."));
    },
  },
  {
    name: "test_sampling",
    era: "legacy",
    inputSchema: strings("prompt"),
    act: (args, talk) =>
      ask(talk, sample(String(args["prompt"])), ({ content }) => `LLM response: ${String((content as Json)["text"])}`),
  },
  {
    name: "test_elicitation",
    era: "legacy",
    inputSchema: strings("message"),
    act: (args, talk) =>
      ask(
        talk,
        elicit(String(args["message"]), strings("username", "email")),
        (answer) => `User response: ${outcome(answer)}`,
      ),
  },
  {
    name: "test_elicitation_sep1034_defaults",
    era: "legacy",
    act: (_args, talk) =>
      ask(talk, elicit("Please review the form", DEFAULTS), (answer) => `Elicitation completed: ${outcome(answer)}`),
  },
  {
    name: "test_elicitation_sep1330_enums",
    era: "legacy",
    act: (_args, talk) =>
      ask(talk, elicit("Please select options", ENUMS), (answer) => `Elicitation completed: ${outcome(answer)}`),
  },
  { name: "json_schema_2020_12_tool", inputSchema: SCHEMA_2020_12, act: async () => done(text("called")) },
  {
    name: "test_custom_header",
    era: "modern",
    inputSchema: {
      type: "object",
      properties: { region: { type: "string", "x-mcp-header": "Region" } },
      required: ["region"],
    },
    act: async ({ region }) => done(text(`region ${String(region)}`)),
  },
  {
    name: "test_missing_capability",
    era: "modern",
    async act(_args, talk) {
      talk.demand("sampling");
      return done(text("sampling is declared"));
    },
  },
  {
    name: "test_streaming_elicitation",
    era: "modern",
    act: async (_args, talk) => (form(talk, "user_name") ? done(text("thank you")) : input(NAME)),
  },
  { name: "test_logging_tool", era: "modern", act: async () => done(text("nothing was logged, for nobody asked")) },
  {
    name: "test_trigger_tool_change",
    era: "modern",
    async act(_args, talk) {
      talk.changed("tools");
      return done(text("told"));
    },
  },
  {
    name: "test_trigger_prompt_change",
    era: "modern",
    async act(_args, talk) {
      talk.changed("prompts");
      return done(text("told"));
    },
  },
  {
    name: "test_input_required_result_elicitation",
    era: "modern",
    async act(_args, talk) {
      const given = form(talk, "user_name");
      return given === undefined ? input(NAME) : done(text(`Hello, ${String(given["name"])}!`));
    },
  },
  {
    name: "test_input_required_result_sampling",
    era: "modern",
    act: async (_args, { responses }) =>
      responses?.["capital_question"] === undefined
        ? input({ capital_question: sample("What is the capital of France?") })
        : done(text(JSON.stringify(responses["capital_question"]))),
  },
  {
    name: "test_input_required_result_list_roots",
    era: "modern",
    act: async (_args, { responses }) =>
      responses?.["client_roots"] === undefined
        ? input({ client_roots: ROOTS })
        : done(text(JSON.stringify(responses["client_roots"]))),
  },
  {
    name: "test_input_required_result_request_state",
    era: "modern",
    act: async (_args, talk) =>
      talk.state?.["asked"] === "confirm" && form(talk, "confirm") !== undefined
        ? done(text("state-ok"))
        : input({ confirm: elicit("Please confirm", YES) }, await talk.seal({ asked: "confirm" })),
  },
  {
    name: "test_input_required_result_tampered_state",
    era: "modern",
    act: async (_args, talk) =>
      talk.state !== undefined && form(talk, "confirm") !== undefined
        ? done(text("state-ok"))
        : input({ confirm: elicit("Please confirm", YES) }, await talk.seal({ asked: "confirm" })),
  },
  {
    name: "test_input_required_result_multiple_inputs",
    era: "modern",
    act: async (_args, talk) =>
      ["user_name", "greeting", "client_roots"].every((key) => talk.responses?.[key] !== undefined)
        ? done(text("all three are there"))
        : input(
            { ...NAME, greeting: sample("Generate a greeting", 50), client_roots: ROOTS },
            await talk.seal({ asked: "three" }),
          ),
  },
  {
    name: "test_input_required_result_multi_round",
    era: "modern",
    async act(_args, talk) {
      if (talk.state?.["round"] === 2 && form(talk, "step2") !== undefined) return done(text("two rounds"));
      return talk.state?.["round"] === 1 && form(talk, "step1") !== undefined
        ? input(
            { step2: elicit("Step 2: What is your favorite color?", strings("color")) },
            await talk.seal({ round: 2 }),
          )
        : input({ step1: elicit("Step 1: What is your name?", strings("name")) }, await talk.seal({ round: 1 }));
    },
  },
  {
    name: "test_input_required_result_capabilities",
    era: "modern",
    act: async (_args, { capabilities }) =>
      input({
        ...("elicitation" in capabilities && NAME),
        ...("sampling" in capabilities && { greeting: sample("Generate a greeting", 50) }),
      }),
  },
];

const user = (content: Json): Json => ({ role: "user", content });
const said = (...messages: Json[]): Json => ({ messages });

/** Prompts; arguments are the names that {@link PROMPT_ARGUMENTS} has. */
export const PROMPTS: readonly Offer[] = [
  { name: "test_simple_prompt", act: async () => said(user(text("This is a simple prompt for testing."))) },
  {
    name: "test_prompt_with_arguments",
    act: async ({ arg1, arg2 }) =>
      said(user(text(`Prompt with arguments: arg1='${String(arg1)}', arg2='${String(arg2)}'`))),
  },
  {
    name: "test_prompt_with_embedded_resource",
    act: async ({ resourceUri }) =>
      said(
        user(embedded(String(resourceUri), "Embedded resource content for testing.")),
        user(text("Please process the embedded resource above.")),
      ),
  },
  {
    name: "test_prompt_with_image",
    act: async () =>
      said(user({ type: "image", data: PNG, mimeType: "image/png" }), user(text("Please analyze the image above."))),
  },
  {
    name: "test_input_required_result_prompt",
    era: "modern",
    act: async (_args, talk) =>
      form(talk, "user_context") === undefined
        ? input({ user_context: elicit("What context should the prompt use?", strings("context")) })
        : said(user(text("with the context"))),
  },
];
export const PROMPT_ARGUMENTS: Readonly<Record<string, readonly string[]>> = {
  test_prompt_with_arguments: ["arg1", "arg2"],
  test_prompt_with_embedded_resource: ["resourceUri"],
};

export const RESOURCES: readonly Json[] = [
  { uri: "test://static-text", name: "static-text", description: "A text", mimeType: "text/plain" },
  { uri: "test://static-binary", name: "static-binary", description: "A picture", mimeType: "image/png" },
  { uri: "test://watched-resource", name: "watched-resource", description: "One to watch", mimeType: "text/plain" },
];
export const TEMPLATES: readonly Json[] = [
  {
    uriTemplate: "test://template/{id}/data",
    name: "template",
    description: "One for each id",
    mimeType: "application/json",
  },
];

/** @returns undefined where there is no such resource */
export function read(uri: string): Json | undefined {
  if (uri === "test://static-binary") return { contents: [{ uri, mimeType: "image/png", blob: PNG }] };
  const [, id] = /^test:\/\/template\/([^/]+)\/data$/.exec(uri) ?? [];
  const found = id === undefined ? RESOURCES.some((one) => one["uri"] === uri) : true;
  if (!found) return undefined;
  const content =
    id === undefined ? "This is the content of the resource." : JSON.stringify({ id, data: `Data for ID: ${id}` });
  return { contents: [{ uri, mimeType: id === undefined ? "text/plain" : "application/json", text: content }] };
}
