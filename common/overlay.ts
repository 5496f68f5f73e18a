// The injection's part of a RabbitmqCluster's advanced.config: between two lines, so that it can be told from the user's own text.

export const OVERLAY_BEGIN = '%% amqp-proxy:begin';
export const OVERLAY_END = '%% amqp-proxy:end';

const BLOCK = new RegExp(`(?:^|\\n)${OVERLAY_BEGIN}\\n([^]*?)\\n${OVERLAY_END}(?:\\n|$)`, 'g');

/** The text without what stands between the two lines, and that; every other character stays. */
export function splitOverlays(text: string): { text: string; overlays: string[] } {
  const overlays: string[] = [];
  const rest = text.replace(BLOCK, (_match, overlay: string) => {
    overlays.push(overlay);
    return '';
  });
  return { text: rest, overlays };
}
