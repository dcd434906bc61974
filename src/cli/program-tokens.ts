import type { Command } from "commander";
import { gather, jsonOption, objectName, reasonText, type ProgramParts } from "./arguments.ts";
import type { ExchangeOptions } from "./verbs/exchange.ts";
import type { Killable, Restorable } from "./verbs/kill.ts";

/** Verbs about tokens, agents and keys. */
export function addTokenVerbs(program: Command, parts: ProgramParts): void {
  addExchange(program, parts);
  addKill(program, parts);
  addAgents(program, parts);
  addKeys(program, parts);
}

function addExchange(program: Command, { run }: ProgramParts): void {
  program
    .command("exchange")
    .description("exchange this workload's own token for an access token of less than a minute; prints it")
    .option("--resource <id>", "where the token will be spent: a resource's identifier or name")
    .option("--to <agent>", "hand the work to this agent instead", objectName)
    .requiredOption(
      "--scope <scope>",
      "RESOURCE:ACTION, again for each; RESOURCE alone for whatever is granted there",
      gather,
    )
    .option("--purpose <text>", "why; recorded")
    .option("--ttl <seconds>", "1 to 59")
    .option("--token-file <file>", "the workload's token (default: EPHOR_TOKEN_FILE, then where the platform puts it)")
    .option("--as <agent>", "prove yourself by the key of `ephor agents key` instead", objectName)
    .option("--audience <aud>", "audience of the workload's token (default: EPHOR_URL)")
    .option("--subject-token-file <file>", "on whose behalf: a human's token, or a hand-over")
    .option("--subject-token-type <type>", "jwt, id_token or access_token", "jwt")
    .option("--on-behalf-of <token-file:FILE>", "the same as --subject-token-file")
    .option("--task <txn[.node]>", "continue a task of this agent")
    .option("--traceparent <value>", "W3C trace context, recorded with every event")
    .addOption(jsonOption())
    .action(async (options: ExchangeOptions & { json?: boolean }) => {
      await run(
        async (context) => await (await import("./verbs/exchange.ts")).exchangeVerb(context, options),
        options.json === true,
      );
    });
}

const KILLS: readonly [what: Killable, argument: string, description: string][] = [
  ["agent", "<name...>", "everything these agents hold, and every chain below them"],
  ["chain", "<txn...>", "whole tasks; for ever"],
  ["credential", "<jti...>", "single tokens, with all that was derived from them; for ever"],
  ["lease", "<id...>", "single vended credentials; for ever"],
  ["subject", "<sub...>", "whatever agents do for these people: ISSUER|SUB, as tokens and events say it"],
  ["owner", "<owner...>", "all agents of these owners"],
  ["issuer", "<name...>", "all agents and people that these issuers vouch for"],
  ["resource", "<name...>", "every token and credential for these resources"],
  ["trace", "<id...>", "the chains that carried these trace ids until now; for ever"],
  ["all", "", "everything but operators, kill and restore"],
];
const RESTORES = ["agent", "subject", "owner", "issuer", "resource", "all"] as const satisfies readonly Restorable[];

function addKill(program: Command, { run }: ProgramParts): void {
  const killing = program
    .command("kill")
    .description("stop agents, chains, credentials, people's agents, issuers or resources, everywhere, now");
  for (const [what, argument, description] of KILLS) {
    const verb = killing.command(what).description(description);
    if (argument !== "") verb.argument(argument);
    verb
      .requiredOption("--reason <text>", "why; recorded", reasonText)
      .option("--dry-run", "preview, kill nothing")
      .addOption(jsonOption());
    if ((RESTORES as readonly Killable[]).includes(what))
      verb.option("--for <span>", "ends by itself after 10m, 8h, 2d");
    verb.action(async (...given: unknown[]) => {
      const names = argument === "" ? [] : (given[0] as string[]);
      const o = verb.opts<{ reason: string; for?: string; dryRun?: boolean; json?: boolean }>();
      const order = { what, names, reason: o.reason, lasts: o.for, isDryRun: o.dryRun === true };
      await run(async (context) => await (await import("./verbs/kill.ts")).kill(context, order), o.json === true);
    });
  }
  const restoring = program.command("restore").description("lift kills; what was issued before them stays dead");
  for (const what of RESTORES) {
    const verb = restoring.command(what);
    verb.description(what === "all" ? "a kill of all" : `kills of ${what}s`);
    if (what !== "all") verb.argument("<name...>");
    verb.requiredOption("--reason <text>", "why; recorded", reasonText).addOption(jsonOption());
    verb.action(async (...given: unknown[]) => {
      const names = what === "all" ? [] : (given[0] as string[]);
      const o = verb.opts<{ reason: string; json?: boolean }>();
      const order = { what, names, reason: o.reason };
      await run(async (context) => await (await import("./verbs/kill.ts")).restore(context, order), o.json === true);
    });
  }
}

function addAgents(program: Command, { run }: ProgramParts): void {
  const isJson = (command: Command): boolean => command.optsWithGlobals<{ json?: boolean }>().json === true;
  const agents = program
    .command("agents")
    .description("list the agents")
    .addOption(jsonOption())
    .action(async (options: { json?: boolean }) => {
      await run(
        async (context) => await (await import("./verbs/objects.ts")).listAgents(context),
        options.json === true,
      );
    });
  agents
    .command("key")
    .description(
      "make a key for an agent without a platform, on this machine, and register its public half; prints the path",
    )
    .argument("<name>", "the agent", objectName)
    .option("--owner <person>", "who answers for it; makes the agent where there is none")
    .option("--purpose <text>", "what it is for")
    .option("--may <scope>", "grant it RESOURCE:ACTION, again for each", gather)
    .addOption(jsonOption())
    .action(
      async (name: string, o: { owner?: string; purpose?: string; may?: readonly string[] }, command: Command) => {
        const order = { name, owner: o.owner, purpose: o.purpose, may: o.may ?? [] };
        await run(
          async (context) => await (await import("./verbs/agent-key.ts")).makeKey(context, order),
          isJson(command),
        );
      },
    );
  agents
    .command("assertion")
    .description("print a fresh client_assertion signed with that key; works once, for two minutes")
    .argument("<name>", "the agent", objectName)
    .option("--audience <issuer>", "the server's issuer (default: as the server says)")
    .addOption(jsonOption())
    .action(async (name: string, o: { audience?: string }, command: Command) => {
      await run(
        async (context) => await (await import("./verbs/agent-key.ts")).printAssertion(context, name, o.audience),
        isJson(command),
      );
    });
}

function addKeys(program: Command, { run }: ProgramParts): void {
  const keys = program.command("keys").description("the server's own signing keys");
  keys
    .command("list")
    .description("public keys of tokens and of records")
    .addOption(jsonOption())
    .action(async (options: { json?: boolean }) => {
      await run(async (context) => await (await import("./verbs/keys.ts")).listKeys(context), options.json === true);
    });
  keys
    .command("rotate")
    .description("make the next token key the active one, now")
    .option("--reason <text>", "why; recorded", reasonText)
    .addOption(jsonOption())
    .action(async (options: { reason?: string; json?: boolean }) => {
      await run(
        async (context) => await (await import("./verbs/keys.ts")).rotateKeys(context, options.reason),
        options.json === true,
      );
    });
  keys
    .command("rewrap")
    .description(
      "put everything sealed under the server's present kek, so that kek_previous can go; safe to stop and repeat",
    )
    .option("--reason <text>", "why; recorded", reasonText)
    .addOption(jsonOption())
    .action(async (options: { reason?: string; json?: boolean }) => {
      await run(
        async (context) => await (await import("./verbs/keys.ts")).rewrapKeys(context, options.reason),
        options.json === true,
      );
    });
}
