# Reads a mailbox: net_pop3.pl plain|starttls|tls HOST PORT CERTIFICATE keep|delete
use strict;
use warnings;
use Authen::SASL;
use Net::POP3;

my ($way, $host, $port, $certificate, $then) = @ARGV;
my @tls = (SSL_ca_file => $certificate, SSL_verifycn_name => $host);

my $pop3 = Net::POP3->new($host, Port => $port, Timeout => 30, $way eq 'tls' ? (SSL => 1, @tls) : ())
    or die "no connection: $@";

sub check ($$) { # in scalar context: what has failed returns nothing
    my ($good, $what) = @_;
    die "$what: " . $pop3->code . ' ' . $pop3->message . " $@" unless $good;
}

check($pop3->starttls(@tls), 'STLS') if $way eq 'starttls';
my ($user, $password) = @ENV{qw(LOGIN_USER LOGIN_PASSWORD)};
if ($ENV{LOGIN_BY}) {
    my $login = Authen::SASL->new(
        mechanism => $ENV{LOGIN_BY},
        callback => { user => $user, pass => $password, authname => '' },
    );
    check($pop3->auth($login), 'AUTH');
} else {
    check(defined $pop3->login($user, $password), 'login');
}

my %seen;
if (open my $before, '<', 'seen') {
    chomp(my @lines = <$before>);
    @seen{@lines} = ();
}
my $uidls = $pop3->uidl;
check($uidls, 'UIDL');
for my $number (sort { $a <=> $b } keys %$uidls) {
    my $uidl = $uidls->{$number};
    if (!exists $seen{$uidl}) {
        open my $file, '>:raw', "mail/$uidl" or die "mail/$uidl: $!";
        check($pop3->get($number, $file), 'RETR');
        close $file or die "mail/$uidl: $!";
    }
    check($pop3->delete($number), 'DELE') if $then eq 'delete';
}
open my $after, '>', 'seen' or die "seen: $!";
print $after map { "$_\n" } values %$uidls;
check($pop3->quit, 'QUIT');
