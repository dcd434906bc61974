import { z } from "zod";
import { page, type Page } from "../page.ts";
import { STYLE } from "../style.ts";

/** Changes with the style sheet; nothing is proved by it. */
export const STYLE_VERSION = [...STYLE].reduce((sum, one) => (sum * 31 + one.charCodeAt(0)) >>> 0, 7).toString(36);

const ICON = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="7" fill="#0b5cad"/><path d="M10 9h13M10 16h10M10 23h13M10 9v14" stroke="#fff" stroke-width="3.4" fill="none"/></svg>`;

/** What pages are made up with. */
export const filePages: readonly Page[] = [
  page({
    method: "GET",
    path: "/console/style.css",
    access: "anyone",
    isFile: true,
    query: z.strictObject({ v: z.string().max(16).optional() }),
    handle: () => ({ kind: "file", type: "text/css; charset=utf-8", text: STYLE }),
  }),
  page({
    method: "GET",
    path: "/console/icon.svg",
    access: "anyone",
    isFile: true,
    handle: () => ({ kind: "file", type: "image/svg+xml", text: ICON }),
  }),
];
