// The identity provider of the lab: panva's oidc-provider on loopback, made for machines that talk
// to machines. What it is to do stands in ENFORCER_IDP, as JSON:
//
//   port   where to listen; 0 for any
//   ttl    seconds that an access token lives
//   keys   what to sign with: { alg, kid } for a fresh key, or a private JWK
//   tls    { key, cert }: files in PEM; with them it speaks HTTPS and binds tokens to certificates
//
// Once it serves, it prints one line of JSON: its issuer, and its keys with their private halves.
// It ends with its input. State is in memory: what it issued is forgotten when it ends, what it
// signed is not.

import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { X509Certificate } from 'node:crypto';
import { exportJWK, generateKeyPair } from 'jose';
import Provider from 'oidc-provider';

const wish = JSON.parse(process.env.ENFORCER_IDP);

async function signingKey(key) {
  if (key.kty) return key;
  const { privateKey } = await generateKeyPair(key.alg, { extractable: true });
  return { ...(await exportJWK(privateKey)), alg: key.alg, kid: key.kid, use: 'sig' };
}

// An access token's form is chosen by the last part of its resource: an algorithm in lower case, or
// `opaque`. The first key of that algorithm signs.
function formOf(resource, keys) {
  const form = new URL(resource).pathname.slice(1);
  if (form === 'opaque') return { accessTokenFormat: 'opaque' };
  const key = keys.find(({ alg }) => alg.toLowerCase() === form);
  if (!key) throw new Error(`no key for ${resource}`);
  return { accessTokenFormat: 'jwt', jwt: { sign: { alg: key.alg, kid: key.kid } } };
}

// What a provider adds for roles, by client.
const ROLES = {
  'svc-orders': ['reader', 'writer'],
  'svc-readonly': ['reader'],
  'svc-oncall': ['reader', 'sec-oncall'],
  'svc-dpop': ['reader', 'writer'],
  'svc-mtls': ['reader', 'writer'],
};

function clientsOf(keys) {
  const [{ alg }] = keys;
  const special = {
    'svc-dpop': { dpop_bound_access_tokens: true },
    ...(wish.tls && { 'svc-mtls': { tls_client_certificate_bound_access_tokens: true } }),
  };
  const names = ['enforcer', ...Object.keys(ROLES)].filter((name) => wish.tls || name !== 'svc-mtls');
  return names.map((name) => ({
    client_id: name,
    client_secret: `${name}-secret-of-the-lab-and-of-nothing-else`,
    grant_types: ['client_credentials'],
    response_types: [],
    redirect_uris: [],
    token_endpoint_auth_method: 'client_secret_basic',
    id_token_signed_response_alg: alg,
    ...special[name],
  }));
}

function peerCertificate({ socket }) {
  const raw = socket.getPeerCertificate?.(true)?.raw;
  return raw && new X509Certificate(raw);
}

const keys = await Promise.all(wish.keys.map(signingKey));
const algorithms = [...new Set(keys.map(({ alg }) => alg))];
const scopes = ['api.read', 'api.write', 'admin'];
const server = wish.tls
  ? createTlsServer({
      key: readFileSync(wish.tls.key),
      cert: readFileSync(wish.tls.cert),
      requestCert: true,
      rejectUnauthorized: false,
    })
  : createServer();
await new Promise((listening, failed) => {
  server.once('error', failed);
  server.listen(wish.port, '127.0.0.1', listening);
});
const issuer = `${wish.tls ? 'https' : 'http'}://127.0.0.1:${server.address().port}`;

const provider = new Provider(issuer, {
  clients: clientsOf(keys),
  jwks: { keys },
  scopes,
  ttl: { ClientCredentials: wish.ttl },
  enabledJWA: {
    idTokenSigningAlgValues: algorithms,
    dPoPSigningAlgValues: ['ES256', 'EdDSA', 'Ed25519'],
  },
  extraTokenClaims: (_context, { clientId }) => ({ roles: ROLES[clientId] ?? [], tenant: 't1' }),
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    dPoP: { enabled: true },
    introspection: { enabled: true, allowedPolicy: (_context, { clientId }) => clientId === 'enforcer' },
    revocation: {
      enabled: true,
      allowedPolicy: (_context, client, token) => token.clientId === client.clientId,
    },
    ...(wish.tls && {
      mTLS: { enabled: true, certificateBoundAccessTokens: true, getCertificate: peerCertificate },
    }),
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (_context, resource) => ({
        scope: scopes.join(' '),
        audience: resource,
        accessTokenTTL: wish.ttl,
        ...formOf(resource, keys),
      }),
    },
  },
});
provider.on('server_error', (_context, error) => console.error(error));
server.on('request', provider.callback());
process.stdin.on('end', () => process.exit(0)).resume();
console.log(JSON.stringify({ issuer, keys }));
