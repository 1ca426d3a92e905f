# Gateway and producer of the reference target: one image, the command says which.
FROM python:3.12-slim-bookworm

WORKDIR /app
COPY docker/target-requirements.txt .
RUN pip install --no-cache-dir --require-hashes --only-binary :all: -r target-requirements.txt
COPY reference_target reference_target

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 65534:65534
CMD ["python", "-m", "reference_target.gateway"]
