import { describe, expect, it } from 'vitest';
import { parseReference, parseVersionTag, versionOfImage } from '../../../common/image.ts';

const DIGEST = `sha256:${'0123456789abcdef'.repeat(4)}`;

describe('the version of an image', () => {
  it.each<[string, string | undefined]>([
    ['rabbitmq:3.13.7-management', '3.13.7'],
    ['rabbitmq:3.12-management-alpine', '3.12'],
    ['rabbitmq:4.2', '4.2'],
    ['rabbitmq:v4.2.1', '4.2.1'],
    ['registry.example:5000/team/rabbitmq:4.0.5', '4.0.5'],
    ['[::1]:5000/rabbitmq:4.0', '4.0'],
    [`rabbitmq:4.0@${DIGEST}`, '4.0'],
    [`rabbitmq@${DIGEST}`, undefined],
    ['rabbitmq', undefined],
    ['registry.example:5000/rabbitmq', undefined],
    ['rabbitmq:latest', undefined],
    ['rabbitmq:4', undefined],
    ['rabbitmq:4-management', undefined],
    ['rabbitmq:4.2.1.9', undefined],
    ['rabbitmq:4.2x', undefined],
    ['kolla/rabbitmq:2024.1-ubuntu', undefined],
    ['rabbitmq:management-4.2', undefined],
    ['Not an image', undefined],
    ['', undefined],
    [`rabbitmq:4.2${'-x'.repeat(5000)}`, undefined],
  ])('%s: %s', (image, version) => {
    expect(versionOfImage(image)).toBe(version);
  });
});

describe('the parts of an image', () => {
  it('are name, tag and digest, and of a tag what stands around its version', () => {
    const reference = parseReference(`registry.example:5000/a/rabbitmq:v3.13.7-management@${DIGEST}`);
    expect(reference).toEqual({
      name: 'registry.example:5000/a/rabbitmq',
      tag: 'v3.13.7-management',
      digest: DIGEST,
    });
    expect(parseVersionTag(reference?.tag)).toEqual({
      prefix: 'v',
      version: '3.13.7',
      suffix: '-management',
    });
    expect(parseReference('localhost:5000/rabbitmq')).toEqual({ name: 'localhost:5000/rabbitmq' });
    expect(parseVersionTag(undefined)).toBeUndefined();
  });
});
