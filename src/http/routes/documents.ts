import { z } from "zod";
import { docsPage, DOCS_POLICY } from "../docs-page.ts";
import { printOpenApi } from "../openapi.ts";
import { route } from "../route.ts";
import type { Route } from "../route.ts";

/** The description of all this, for programs and for people. */
export const documentRoutes: readonly Route[] = [
  route({
    method: "GET",
    path: "/openapi.json",
    operationId: "getOpenApi",
    summary: "This document",
    tag: "Documents",
    auth: "none",
    responses: { 200: { description: "OpenAPI 3.1.", body: z.looseObject({ openapi: z.string() }) } },
    handle: ({ house }) => ({
      status: 200,
      text: printOpenApi(house.openApi()),
      headers: {
        "Content-Type": "application/json",
        "Cache-Control": "public, max-age=300",
        "Access-Control-Allow-Origin": "*",
      },
    }),
  }),
  route({
    method: "GET",
    path: "/docs",
    operationId: "getDocs",
    summary: "This document as a page",
    tag: "Documents",
    auth: "none",
    responses: {
      200: { description: "A page that fetches nothing from elsewhere.", body: z.string(), contentType: "text/html" },
    },
    handle: ({ house }) => ({
      status: 200,
      text: docsPage(house.openApi()),
      headers: {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": DOCS_POLICY,
        "Cache-Control": "public, max-age=300",
      },
    }),
  }),
];
