/** `applied` something was changed · `unchanged` there was nothing to change · `refused` it was not valid. */
export const RELOAD_RESULTS = ['applied', 'unchanged', 'refused'] as const;

/** What is counted of reloads. */
export class ReloadStats {
  readonly results: Record<(typeof RELOAD_RESULTS)[number], number> = {
    applied: 0,
    unchanged: 0,
    refused: 0,
  };
  /** When the configuration that is in effect was read, Unix time in milliseconds. */
  loadedAt = Date.now();
  /** Whether the last one that was read is valid. */
  isValid = true;
  /** Options whose new value waits for a restart. */
  pending = 0;
}
