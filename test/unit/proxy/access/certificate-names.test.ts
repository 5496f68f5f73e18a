import { X509Certificate } from 'node:crypto';
import type { JsonGeneralName } from '@peculiar/x509';
import { beforeAll, describe, expect, it } from 'vitest';
import { type CertificateAndKey, makeCa } from '../../../../certs/certificates.ts';
import { type CertificateNames, readCertificateNames } from '../../../../proxy/access/certificate-names.ts';
import { certificateOf } from '../../../support/client-certificate.ts';

let ca: CertificateAndKey;
beforeAll(async () => {
  ca = await makeCa({ commonName: 'ca', days: 1 });
});

async function namesOf(commonNames: string[], names: JsonGeneralName[] = []): Promise<CertificateNames> {
  const { cert } = await certificateOf(ca, commonNames, names);
  return readCertificateNames(new X509Certificate(cert));
}

const NONE = { 'common-name': [], 'dns-name': [], uri: [], email: [] };

describe('the names of a certificate', () => {
  it('are its common names and its alternative names, each in their order', async () => {
    const names = await namesOf(
      ['cinder.openstack.svc', 'second'],
      [
        { type: 'dns', value: 'cinder' },
        { type: 'url', value: 'spiffe://openstack/ns/cinder?a=b:c' },
        { type: 'email', value: 'cinder@example.org' },
        { type: 'ip', value: '192.0.2.7' },
        { type: 'dns', value: '*.cinder' },
      ],
    );
    expect(names).toEqual({
      'common-name': ['cinder.openstack.svc', 'second'],
      'dns-name': ['cinder', '*.cinder'],
      uri: ['spiffe://openstack/ns/cinder?a=b:c'],
      email: ['cinder@example.org'],
    });
  });

  it('are none where it has none', async () => {
    expect(await namesOf([])).toEqual(NONE);
  });

  it.each([
    'a, DNS:admin',
    'a", DNS:"admin',
    'a\\", DNS:admin',
    'a\0b',
    'a\nDNS:admin',
    '"DNS:admin"',
    'a,b',
  ])('can’t be two when one is written like two: %j', async (value) => {
    expect(await namesOf([], [{ type: 'dns', value }])).toEqual({ ...NONE, 'dns-name': [value] });
    expect(
      await namesOf(
        [],
        [
          { type: 'url', value },
          { type: 'dns', value: 'last' },
        ],
      ),
    ).toEqual({
      ...NONE,
      'dns-name': ['last'],
      uri: [value],
    });
  });

  it.each(['a, CN=admin', 'a\nCN=admin', 'a/CN=admin', 'a+CN=admin', 'ä', 'a"b'])(
    'can’t be two when a common name is written like two: %j',
    async (value) => {
      expect(await namesOf([value])).toEqual({ ...NONE, 'common-name': [value] });
    },
  );

  it('of a directory are not taken for others', async () => {
    const names = await namesOf(
      [],
      [
        { type: 'dn', value: 'CN=a\\, DNS:admin' },
        { type: 'dns', value: 'b' },
      ],
    );
    expect(names).toEqual({ ...NONE, 'dns-name': ['b'] });
  });
});
