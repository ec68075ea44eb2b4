# Prometheus 3 for the tests, out of Debian's next release: bookworm and trixie have version 2. The mirror may lag behind;
# what it has is signed all the same.
FROM debian:bookworm-slim
RUN echo 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian forky main' \
        >/etc/apt/sources.list.d/forky.list \
    && apt-get -q -o Acquire::Check-Valid-Until=false update \
    && cd /tmp && apt-get -q download prometheus/forky promtool/forky \
    && for package in *.deb; do dpkg-deb --extract "$package" /; done && rm *.deb \
    && install -d -o 65534 -g 65534 /prometheus
USER 65534
WORKDIR /prometheus
ENTRYPOINT ["/usr/bin/prometheus"]
