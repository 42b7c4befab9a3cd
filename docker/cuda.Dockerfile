# switchyard on NVIDIA's GPUs: the CUDA toolkit with cuBLAS and NCCL, the distribution's packages, and the program with its
# plug-in for GPUs in /switchyard/build.
#   docker build -f docker/cuda.Dockerfile -t switchyard-cuda .
#   docker run --rm --gpus all --shm-size=1g switchyard-cuda launch/local.sh 2 build/switchyard train configs/lm_tiny.textproto
FROM nvidia/cuda:13.0.1-devel-ubuntu24.04
WORKDIR /switchyard
COPY . .
RUN launch/install.sh
RUN launch/build.sh --preset cuda
CMD ["build/switchyard", "doctor"]
