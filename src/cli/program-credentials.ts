import { Option, type Command } from "commander";
import { gather, jsonOption, objectName, reasonText, type ProgramParts } from "./arguments.ts";
import { FORMATS } from "./credential/format-names.ts";
import type { CredentialOptions } from "./verbs/credential.ts";
import type { LoginOptions } from "./verbs/login.ts";
import type { McpOptions } from "./verbs/mcp.ts";
import type { RunOptions } from "./verbs/run.ts";

/** Verbs about secrets, the credentials made of them, and commands that use these. */
export function addCredentialVerbs(program: Command, parts: ProgramParts): void {
  addLogin(program, parts);
  addRun(program, parts);
  addMcp(program, parts);
  addCredential(program, parts);
  addSecret(program, parts);
}

function withProof(command: Command): Command {
  return command
    .option("--token-file <file>", "the workload's token (default: EPHOR_TOKEN_FILE, then where the platform puts it)")
    .option("--as <agent>", "prove yourself by the key of `ephor agents key` instead", objectName)
    .option("--audience <aud>", "audience of the workload's token (default: EPHOR_URL)");
}

function addLogin(program: Command, { run }: ProgramParts): void {
  program
    .command("login")
    .description("sign in as a human at your company's identity provider; tasks can then be opened on your behalf")
    .option("--issuer <name>", "which one, where the server trusts several", objectName)
    .option("--device", "by a code that is typed on another machine: for those without a browser")
    .option("--no-browser", "print the address, open nothing")
    .option("--port <n>", "where the browser comes back to on this machine (default: any; some providers want one)")
    .option("--scope <scope>", "what is asked for (default: openid profile email)")
    .option("--logout", "forget the login instead")
    .addOption(jsonOption())
    .action(async (options: LoginOptions & { json?: boolean }) => {
      await run(
        async (context) => await (await import("./verbs/login.ts")).login(context, options),
        options.json === true,
      );
    });
}

function addRun(program: Command, { run }: ProgramParts): void {
  withProof(
    program
      .command("run")
      .description("run a command under a task, with credentials that it asks for each time and that die with it")
      .requiredOption("--task <purpose>", "why; recorded, and carried by everything the command does", reasonText)
      .option("--on-behalf-of <who>", "me (ephor login), or token-file:PATH")
      .option("--credential <name>", "a credential resource, again for each", gather, [])
      .option(
        "--mcp <name>",
        "an MCP resource, as a URL on loopback in EPHOR_MCP_<NAME>_URL; again for each",
        gather,
        [],
      )
      .option("--env", "put plain values into the environment too, for tools that can do no better")
      .option("--for <span>", "how long it may go on at most (default: 8h, or what the server allows)"),
  )
    .argument("<command...>", "after --")
    .passThroughOptions()
    .addHelpText(
      "after",
      "\nAWS tools and SDKs, git and psql find what they need by themselves; other tools call `ephor credential`.\n" +
        "Exit: the command's own code; 125 when it was not started.",
    )
    .action(async (words: string[], options: RunOptions) => {
      await run(async (context) => await (await import("./verbs/run.ts")).run(context, options, words), false);
    });
}

function addMcp(program: Command, { run }: ProgramParts): void {
  withProof(
    program
      .command("mcp")
      .description(
        "be an MCP server on standard input and output that is a proxied resource, for hosts that cannot log in",
      )
      .argument("<resource>", "the MCP resource", objectName)
      .option("--task <purpose>", "why; recorded (default: ephor mcp RESOURCE)", reasonText)
      .option("--on-behalf-of <who>", "me (ephor login), or token-file:PATH")
      .option("--http [port]", "a URL on loopback instead, for hosts that want one; said on standard error")
      .option("--for <span>", "how long it may go on at most (default: as long as its host)"),
  )
    .addHelpText(
      "after",
      "\nExit: 0 when its input ends or it is told to stop, 5 when the task or the agent was killed.",
    )
    .action(async (resource: string, options: McpOptions) => {
      await run(async (context) => await (await import("./verbs/mcp.ts")).mcp(context, resource, options), false);
    });
}

function addCredential(program: Command, { run }: ProgramParts): void {
  withProof(
    program
      .command("credential")
      .description("print a credential in the form that a tool reads which calls this as its helper")
      .argument("<name>", "the credential resource", objectName)
      .argument("[operation]", "git and docker add it: get, store, erase, list", "get")
      .addOption(new Option("--format <format>", "the tool's form").choices([...FORMATS]).default("json"))
      .option("--host <host>", "git, docker: the only host that it is shown to, where its kind does not know")
      .option("--purpose <text>", "why; recorded")
      .option("--task <txn[.node]>", "under a task of this agent")
      .option("--on-behalf-of <who>", "me (ephor login), or token-file:PATH"),
  ).action(async (resource: string, operation: string, options: CredentialOptions) => {
    await run(
      async (context) =>
        await (await import("./verbs/credential.ts")).credential(context, { resource, operation, options }),
      false,
    );
  });
}

function addSecret(program: Command, { run }: ProgramParts): void {
  const secret = program.command("secret").description("sealed secrets: what credentials are made from");
  const isJson = (command: Command): boolean => command.optsWithGlobals<{ json?: boolean }>().json === true;
  secret
    .command("set")
    .description("seal a value from standard input as a new version")
    .argument("<name>", "the secret", objectName)
    .option("--owner <person>", "who answers for it (default: who sets it first)")
    .option("--raw", "keep the line break that ends the input")
    .addOption(jsonOption())
    .action(async (name: string, o: { owner?: string; raw?: boolean }, command: Command) => {
      const order = { name, owner: o.owner, isRaw: o.raw === true };
      await run(
        async (context) => await (await import("./verbs/secret.ts")).setSecret(context, order),
        isJson(command),
      );
    });
  secret
    .command("list")
    .description("what is sealed: names, versions, owners; never a value")
    .addOption(jsonOption())
    .action(async (_: unknown, command: Command) => {
      await run(async (context) => await (await import("./verbs/secret.ts")).listSecrets(context), isJson(command));
    });
  secret
    .command("show")
    .description("what may be known of one")
    .argument("<name>", "the secret", objectName)
    .addOption(jsonOption())
    .action(async (name: string, _: unknown, command: Command) => {
      await run(
        async (context) => await (await import("./verbs/secret.ts")).showSecret(context, name),
        isJson(command),
      );
    });
  secret
    .command("rotate")
    .description(
      "replace one at its upstream (a database login's password, a refresh token); nobody sees the new value",
    )
    .argument("<name>", "the secret", objectName)
    .addOption(jsonOption())
    .action(async (name: string, _: unknown, command: Command) => {
      await run(
        async (context) => await (await import("./verbs/secret.ts")).rotateSecret(context, name),
        isJson(command),
      );
    });
  secret
    .command("remove")
    .description("take every version of one out of the vault")
    .argument("<name>", "the secret", objectName)
    .addOption(jsonOption())
    .action(async (name: string, _: unknown, command: Command) => {
      await run(
        async (context) => await (await import("./verbs/secret.ts")).removeSecret(context, name),
        isJson(command),
      );
    });
}
