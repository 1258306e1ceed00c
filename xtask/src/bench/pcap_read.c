/* Reads a capture by libpcap and does nothing with it: what a reader of captures takes at least. */
#include <pcap/pcap.h>
#include <stdio.h>

int main(int count, char **arguments) {
    char problem[PCAP_ERRBUF_SIZE];
    struct pcap_pkthdr *header;
    const u_char *data;
    unsigned long packets = 0;
    int found;
    if (count != 2) return 2;
    pcap_t *capture = pcap_open_offline_with_tstamp_precision(
        arguments[1], PCAP_TSTAMP_PRECISION_NANO, problem);
    if (!capture) {
        fprintf(stderr, "%s\n", problem);
        return 1;
    }
    while ((found = pcap_next_ex(capture, &header, &data)) == 1) packets++;
    printf("%lu\n", packets);
    return found == PCAP_ERROR_BREAK ? 0 : 1;
}
