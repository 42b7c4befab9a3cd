# switchyard on CPUs: Debian 12, its packages, and the program in /switchyard/build.
#   docker build -f docker/cpu.Dockerfile -t switchyard .
#   docker run --rm --shm-size=1g switchyard launch/local.sh 2 build/switchyard train configs/lm_tiny.textproto
FROM debian:12
WORKDIR /switchyard
COPY . .
RUN launch/install.sh
RUN launch/build.sh
CMD ["build/switchyard", "doctor"]
