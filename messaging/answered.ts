import { NoAnswer } from './errors.ts';

/**
 * What the broker answers. Of a queue in trouble it may never do so, while its connection lives on.
 * @param what was asked, for the failure
 * @throws NoAnswer where there is no answer in time, and as the answer does
 */
export async function answered<T>(timeoutMs: number, what: string, answer: Promise<T>): Promise<T> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(
    () =>
      reject(
        new NoAnswer(`the broker has not answered ${what} within ${timeoutMs / 1000} s (connect_timeout)`),
      ),
    timeoutMs,
  );
  try {
    return await Promise.race([answer, late]);
  } finally {
    clearTimeout(timer);
  }
}
