// Sends a file: nodemailer.cjs plain|starttls|tls HOST PORT SENDER RECIPIENT FILE
const nodemailer = require('nodemailer');

const [way, host, port, sender, recipient, file] = process.argv.slice(2);
const { LOGIN_USER: user, LOGIN_PASSWORD: pass, LOGIN_BY: method } = process.env;

const transport = nodemailer.createTransport({
    host,
    port: Number(port),
    name: 'client.example',
    secure: way === 'tls',
    requireTLS: way === 'starttls',
    ignoreTLS: way === 'plain',
    auth: user ? { user, pass } : undefined,
    authMethod: method || undefined,
});

transport
    .sendMail({ envelope: { from: sender, to: recipient, use8BitMime: true }, raw: { path: file } })
    .catch((error) => {
        console.error(error.message);
        process.exitCode = 1;
    })
    .finally(() => transport.close());
