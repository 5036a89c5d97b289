package streamscorer.djl;

import java.io.IOException;
import java.nio.file.AccessDeniedException;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.FileSystemException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;

/** A file of a model or a snapshot, read with the errors of the Python package. */
final class InputFile {
    private InputFile() {}

    /**
     * Its bytes.
     *
     * @throws BadInput where it is missing, not a file, longer than that, or can't be read
     */
    static byte[] read(String kind, Path file, long maxBytes) {
        try {
            require(kind, file, maxBytes);
            return Files.readAllBytes(file);
        } catch (NoSuchFileException error) {
            throw new BadInput(kind, file, "is missing; " + Manifest.again(kind));
        } catch (IOException error) {
            throw new BadInput(kind, file, "can't be read: " + reason(error));
        }
    }

    /** Refuses what is no file, or longer; a pipe or a device would be read for ever. */
    static void require(String kind, Path file, long maxBytes) throws IOException {
        if (!Files.exists(file)) {
            Files.readAttributes(file, "isRegularFile"); // says why, such as a loop of links
        }
        if (!Files.isRegularFile(file)) {
            throw new BadInput(kind, file, "is not a file; " + Manifest.again(kind));
        }
        requireLength(kind, file, Files.size(file), maxBytes);
    }

    /** Refuses what is longer. */
    static void requireLength(String kind, Object file, long bytes, long maxBytes) {
        if (bytes > maxBytes) {
            String problem = "has %d bytes, more than the %d that it may have; %s";
            throw new BadInput(kind, file, problem.formatted(bytes, maxBytes, Manifest.again(kind)));
        }
    }

    /** What the system says, without the path, which Java puts before it. */
    static String reason(IOException error) {
        if (error instanceof AccessDeniedException) {
            return "Permission denied";
        }
        if (error instanceof FileAlreadyExistsException) {
            return "File exists";
        }
        String message = String.valueOf(error.getMessage()).lines().findFirst().orElse("");
        if (error instanceof FileSystemException found && found.getFile() != null) {
            message = message.replace(found.getFile() + ": ", "");
        }
        return message.startsWith("Too many levels") ? "Too many levels of symbolic links" : message;
    }
}
