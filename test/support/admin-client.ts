import type { TestProxy } from './peers.ts';

/** What the admin API said. */
export interface Said {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  /** The text as JSON. */
  readonly json: () => unknown;
}

/** Asks a proxy's admin API. */
export async function ask(
  { proxy }: Pick<TestProxy, 'proxy'>,
  path: string,
  init: RequestInit = {},
): Promise<Said> {
  const response = await fetch(`http://127.0.0.1:${proxy.adminAddress.port}${path}`, init);
  const text = await response.text();
  return {
    status: response.status,
    headers: response.headers,
    text,
    json: () => JSON.parse(text) as unknown,
  };
}
