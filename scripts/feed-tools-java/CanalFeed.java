import com.alibaba.otter.canal.connector.kafka.producer.CanalKafkaProducer;
import com.alibaba.otter.canal.instance.core.CanalMQConfig;
import com.alibaba.otter.canal.instance.manager.CanalInstanceWithManager;
import com.alibaba.otter.canal.instance.manager.model.Canal;
import com.alibaba.otter.canal.instance.manager.model.CanalParameter;
import com.alibaba.otter.canal.server.CanalMQStarter;
import com.alibaba.otter.canal.server.embedded.CanalServerWithEmbedded;
import java.io.Reader;
import java.net.InetSocketAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Properties;

/**
 * Canal's server with one instance, from one MySQL or MariaDB to one topic of Kafka.
 *
 * <p>The one argument is a file of properties: `kafka.*` and `canal.mq.*` go to Canal's producer, `feed.*`
 * are described where they are read. Everything is kept in memory: a new start begins at the end of the
 * binlog.
 */
public final class CanalFeed {
    private static final String NAME = "feed";

    private final Properties options = new Properties();

    private CanalFeed(Path file) throws Exception {
        try (Reader reader = Files.newBufferedReader(file)) {
            options.load(reader);
        }
    }

    private String option(String name) {
        String value = options.getProperty("feed." + name);
        if (value == null) {
            throw new IllegalArgumentException("feed." + name + " is not set");
        }
        return value;
    }

    /** Where the changes come from. */
    private Canal source() {
        CanalParameter source = new CanalParameter();
        source.setCanalId(1L);
        source.setSourcingType(CanalParameter.SourcingType.MYSQL);
        int port = Integer.parseInt(option("database.port"));
        source.setDbAddresses(List.of(new InetSocketAddress("127.0.0.1", port)));
        source.setDbUsername(option("database.user"));
        source.setDbPassword(option("database.password"));
        source.setDefaultDatabaseName(option("database.name"));
        source.setSlaveId(Long.parseLong(option("server.id")));
        source.setConnectionCharset("UTF-8");
        source.setDetectingEnable(false);
        source.setGtidEnable(false);
        source.setTsdbEnable(false);
        source.setDataDir(option("folder"));
        source.setHaMode(CanalParameter.HAMode.HEARTBEAT);
        source.setMetaMode(CanalParameter.MetaMode.MEMORY);
        source.setIndexMode(CanalParameter.IndexMode.MEMORY);
        source.setStorageMode(CanalParameter.StorageMode.MEMORY);
        source.setMemoryStorageBufferSize(1024);
        Canal canal = new Canal();
        canal.setId(1L);
        canal.setName(NAME);
        canal.setCanalParameter(source);
        return canal;
    }

    /** Where they go: `feed.hash` as in Canal's `partitionHash`, `db.table:column`, or empty for one partition. */
    private CanalMQConfig target() {
        CanalMQConfig target = new CanalMQConfig();
        target.setTopic(option("topic"));
        if (option("hash").isEmpty()) {
            target.setPartition(0);
        } else {
            target.setPartitionsNum(Integer.parseInt(option("partitions")));
            target.setPartitionHash(option("hash"));
        }
        return target;
    }

    private void run() throws Exception {
        Canal source = source();
        CanalMQConfig target = target();
        String tables = option("tables");
        CanalServerWithEmbedded server = CanalServerWithEmbedded.instance();
        server.setCanalInstanceGenerator(name -> new CanalInstanceWithManager(source, tables) {
            {
                mqConfig = target;
            }
        });
        server.start();
        server.start(NAME);
        CanalKafkaProducer producer = new CanalKafkaProducer();
        producer.init(options);
        new CanalMQStarter(producer).start(NAME);
        // Nothing is kept: no order of ending is better than another.
        Thread.currentThread().join();
    }

    public static void main(String[] arguments) throws Exception {
        new CanalFeed(Path.of(arguments[0])).run();
    }
}
