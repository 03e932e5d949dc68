// Reads a mailbox: node_pop3.cjs plain|tls HOST PORT keep|delete
const fs = require('fs');
const { pipeline } = require('stream/promises');
const Pop3Command = require('node-pop3');

const [way, host, port, then] = process.argv.slice(2);
const { LOGIN_USER: user, LOGIN_PASSWORD: password } = process.env;

const pop3 = new Pop3Command({ user, password, host, port: Number(port), tls: way === 'tls', timeout: 30000 });

async function read() {
    const seen = fs.existsSync('seen') ? fs.readFileSync('seen', 'utf8').split('\n') : [];
    const uidls = await pop3.UIDL();
    for (const [number, uidl] of uidls) {
        if (!seen.includes(uidl)) {
            const [, octets] = await pop3.command('RETR', number); // RETR() of it takes all to be UTF-8
            await pipeline(octets, fs.createWriteStream(`mail/${uidl}`));
        }
        if (then === 'delete') {
            await pop3.DELE(number);
        }
    }
    fs.writeFileSync('seen', uidls.map(([, uidl]) => uidl).join('\n'));
    await pop3.QUIT();
}

read().catch((error) => {
    console.error(error.message);
    process.exit(1); // it keeps the connection
});
