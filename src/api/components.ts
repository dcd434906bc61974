/**
 * The room `api` owns the shapes of what goes over the wire, one file per family of endpoints. The OpenAPI document and the
 * checks of requests come from the same values; the console and the command line read answers by them. No behaviour here.
 */
import { z } from "zod";

/** Shapes that have a name of their own in the OpenAPI document. */
export const components = z.registry<{ id: string }>();

/** Gives a shape its name in the OpenAPI document. */
export function component<T extends z.ZodType>(id: string, shape: T): T {
  components.add(shape, { id });
  return shape;
}
