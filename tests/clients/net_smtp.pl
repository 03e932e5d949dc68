# Sends a file: net_smtp.pl plain|starttls|tls HOST PORT CERTIFICATE SENDER RECIPIENT FILE
use strict;
use warnings;
use Authen::SASL;
use Net::SMTP;

my ($way, $host, $port, $certificate, $sender, $recipient, $file) = @ARGV;
my @tls = (SSL_ca_file => $certificate, SSL_verifycn_name => $host);

my $smtp = Net::SMTP->new(
    $host,
    Port => $port,
    Hello => 'client.example',
    Timeout => 30,
    $way eq 'tls' ? (SSL => 1, @tls) : (),
) or die "no connection: $@";

sub check ($$) { # in scalar context: what has failed returns nothing
    my ($good, $what) = @_;
    die "$what: " . $smtp->code . ' ' . $smtp->message unless $good;
}

check($smtp->starttls(@tls), 'STARTTLS') if $way eq 'starttls';
if ($ENV{LOGIN_USER}) {
    my $login = Authen::SASL->new(
        mechanism => $ENV{LOGIN_BY} || $smtp->supports('AUTH'),
        callback => { user => $ENV{LOGIN_USER}, pass => $ENV{LOGIN_PASSWORD}, authname => '' },
    );
    check($smtp->auth($login), 'AUTH');
}

open my $content, '<:raw', $file or die "$file: $!";
check($smtp->mail($sender, Bits => 8, Size => -s $file), 'MAIL');
check($smtp->to($recipient), 'RCPT');
check($smtp->data, 'DATA');
while (read $content, my $octets, 100_000) {
    check($smtp->datasend($octets), 'content');
}
check($smtp->dataend, 'end of data');
$smtp->quit;
